"""``python -m app.bus sizes``: how large what the shards publish is on the brokers' disks."""

import asyncio
import json
from collections.abc import Callable
from typing import Final, NamedTuple

import nats.errors
from nats.aio.msg import Msg
from nats.js import api
from nats.js.errors import NotFoundError

from app.bus.link import names
from app.bus.link.access import Access, bus_access
from app.bus.link.connection import BusUnavailable, Link
from app.bus.link.names import check_shard
from app.bus.link.streams import ask
from app.bus.process import run_bus_process
from app.config.settings import Settings, SettingsError
from app.runtime.lifecycle import EXIT_OK, FatalError, Stop

SAMPLE: Final = 500
"""The latest messages of a stream, which are looked at one by one."""
FETCH_S: Final = 10.0


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


def _orders_in(message: Msg) -> int:
    """1 for an order; its fills and later changes belong to it."""
    try:
        return int(json.loads(message.data).get("event") == "ack")
    except (ValueError, AttributeError):
        return 0


def _ticks_in(message: Msg) -> int:
    try:
        return int((message.headers or {}).get(names.SEQ_COUNT, 0))
    except ValueError:
        return 0


async def measure(link: Link, stream: str, what: str, count: Callable[[Msg], int]) -> Size:
    """Measure a stream.

    Raises:
        BusUnavailable: no answer.
        FatalError: there is no such stream.
    """
    try:
        info = await ask(link, f"STREAM.INFO.{stream}", link.js.stream_info(stream))
    except NotFoundError:
        raise FatalError(f"sizes: there is no stream {stream}: python -m app.bus setup") from None
    state = info.state
    left = min(state.messages, SAMPLE)
    if not left:
        return Size(stream, what, 0, 0, 0.0)
    config = api.ConsumerConfig(
        ack_policy=api.AckPolicy.NONE,
        deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=state.last_seq - left + 1,
    )
    found, looked = 0, 0
    try:
        place = await link.js.pull_subscribe("", stream=stream, config=config)
        while looked < left:
            for message in await place.fetch(left - looked, timeout=FETCH_S):
                found, looked = found + count(message), looked + 1
    except nats.errors.Error as error:
        raise BusUnavailable(f"{stream}: {error or type(error).__name__}") from None
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
