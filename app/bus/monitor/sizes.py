"""``python -m app.bus sizes``: how large what the shards publish is on the brokers' disks."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Final, NamedTuple

from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from app.bus.link import names
from app.bus.link.access import Access, bus_access
from app.bus.link.connection import BusUnavailable, Link
from app.bus.link.names import check_shard
from app.bus.link.streams import ask, stream_info
from app.bus.process import run_bus_process
from app.config.settings import Settings, SettingsError
from app.runtime.lifecycle import EXIT_OK, FatalError, Stop

SAMPLE: Final = 200
"""The latest messages of a stream, which are looked at one by one."""


class Size(NamedTuple):
    """Of one stream: what it has, and how many orders or ticks are in a message on average."""

    stream: str
    what: str
    messages: int
    stored: int
    """Bytes of one copy, headers and the broker's own part included."""
    each: float

    @property
    def bytes_each(self) -> float:
        """Of one order, with its fills and changes, or of one tick; 0 if there is none."""
        count = self.messages * self.each
        return self.stored / count if count else 0.0


def _orders_in(message: RawStreamMsg) -> int:
    """1 for an order; its fills and later changes belong to it."""
    try:
        return int(json.loads(message.data or b"").get("event") == "ack")
    except (ValueError, AttributeError):
        return 0


def _ticks_in(message: RawStreamMsg) -> int:
    try:
        return int((message.headers or {}).get(names.SEQ_COUNT, 0))
    except ValueError:
        return 0


async def measure(link: Link, stream: str, what: str, count: Callable[[RawStreamMsg], int]) -> Size:
    """Measure a stream.

    Raises:
        BusUnavailable: no answer.
        FatalError: there is no such stream.
    """
    try:
        info = await stream_info(link, stream)
    except NotFoundError:
        raise FatalError(f"sizes: there is no stream {stream}: python -m app.bus setup") from None
    state = info.state
    left = min(state.messages, SAMPLE)
    if not left:
        return Size(stream, what, 0, 0, 0.0)
    found, looked = 0, 0
    for seq in range(state.last_seq - left + 1, state.last_seq + 1):
        with contextlib.suppress(NotFoundError):  # dropped meanwhile
            asked = link.js.get_msg(stream, seq, direct=True)
            found += count(await ask(link, f"DIRECT.GET.{stream}", asked))
            looked += 1
    if not looked:
        return Size(stream, what, state.messages, state.bytes, 0.0)
    return Size(stream, what, state.messages, state.bytes, found / looked)


def table(sizes: list[Size]) -> str:
    """For people."""
    lines = [f"{'stream':<16}{'messages':>12}{'bytes':>16}  bytes of one"]
    lines += [
        f"{size.stream:<16}{size.messages:>12,}{size.stored:>16,}  "
        + (f"{size.what}: {size.bytes_each:,.1f}" if size.each else f"{size.what}: none yet")
        for size in sizes
    ]
    total = sum(size.stored for size in sizes)
    return "\n".join([*lines, f"{'each broker':<16}{'':>12}{total:>16,}", ""])


async def _measure_all(access: Access, shards: tuple[str, ...]) -> list[Size]:
    async with await Link.open(access, "sizes") as link:
        found = []
        for shard in shards:
            found.append(await measure(link, names.out_stream(shard), "order", _orders_in))
            found.append(await measure(link, names.md_stream(shard), "tick", _ticks_in))
        return found


def sizes(*shards: str) -> int:
    """Print what the streams of the shards NAME... take on each broker's disk."""

    def body(settings: Settings, _stop: Stop) -> int:
        if not shards:
            raise SettingsError("sizes: name the shards: python -m app.bus sizes a b")
        try:
            for shard in shards:
                check_shard(shard)
        except ValueError as error:
            raise SettingsError(f"sizes: {error}") from None
        try:
            found = asyncio.run(_measure_all(bus_access(settings), shards))
        except BusUnavailable as error:
            raise FatalError(f"sizes: {error}") from None
        print(table(found), end="")
        return EXIT_OK

    return run_bus_process("sizes", body)
