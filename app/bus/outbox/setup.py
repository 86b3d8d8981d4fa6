"""``python -m app.bus setup``, ``read`` and ``status``."""

import asyncio
import json
import sys
from typing import Final

import nats.errors
from nats.js import api

from app.bus.link import streams
from app.bus.link.access import Access, bus_access
from app.bus.link.connection import BusUnavailable, Link
from app.bus.link.names import check_shard, out_stream
from app.bus.link.streams import stream_info
from app.bus.outbox.controls import ensure_consumer
from app.bus.outbox.mark_file import read_status
from app.bus.process import run_bus_process
from app.config.loading import settings_or_exit
from app.config.settings import Settings, SettingsError
from app.order_manager.store.files import mark_path, store_path
from app.runtime.lifecycle import EXIT_FAULT, EXIT_OK, Backoff, FatalError, Stop
from app.runtime.log import get_logger

log = get_logger()

READ_TOGETHER: Final = 500
_UNACKED: Final = api.ConsumerConfig(ack_policy=api.AckPolicy.NONE)

PATIENCE: Final = 30
"""Attempts: the servers of a new cluster find each other within seconds."""


def setup(*shards: str) -> int:
    """Make what the shards need and may not make themselves; what is there is checked."""

    def body(settings: Settings, stop: Stop) -> int:
        if not shards:
            raise SettingsError("setup: name the shards: python -m app.bus setup a b")
        try:
            for shard in shards:
                check_shard(shard)
        except ValueError as error:
            raise SettingsError(str(error)) from None
        asyncio.run(_setup(settings, stop, shards))
        return EXIT_OK

    return run_bus_process("bus_setup", body)


async def make_all(link: Link, shards: tuple[str, ...], replicas: int) -> list[str]:
    """Make the streams and consumers of these shards, with the bounds of the settings; returns the
    names of the streams.

    Raises:
        BusRefused: one is there and differs, or this user may not make it.
        BusUnavailable: no answer; a later attempt may succeed.
    """
    wanted = [streams.control(), streams.shard_map()]
    for shard in shards:
        wanted += [streams.md(shard), streams.out(shard)]
    for stream in wanted:
        await streams.ensure(link, stream, replicas, change=True)
    for shard in shards:
        await ensure_consumer(link, shard)
    return [stream.name for stream in wanted]


async def _setup(settings: Settings, stop: Stop, shards: tuple[str, ...]) -> None:
    access = bus_access(settings)
    backoff = Backoff(settings.reconnect_delay_ms, settings.reconnect_delay_ms_max)
    reason = "stopped"
    for _ in range(PATIENCE):
        if stop:
            break
        try:
            async with await Link.open(access, "setup") as link:
                made = await make_all(link, shards, settings.bus_replicas)
        except BusUnavailable as error:
            reason = str(error)
            log.warning("bus_unavailable", reason=reason)
            await asyncio.sleep(backoff.delay_s())
            continue
        log.info("bus_ready", streams=",".join(made))
        return
    raise FatalError(f"setup: {reason}")


def read(shard: str = "") -> int:
    """Print each message of a shard's orders and fills up to now, one JSON object a line."""

    def body(settings: Settings, _stop: Stop) -> int:
        try:
            check_shard(shard)
        except ValueError as error:
            raise SettingsError(f"read: {error}") from None
        asyncio.run(_read(bus_access(settings), out_stream(shard)))
        return EXIT_OK

    return run_bus_process("read", body)


async def _read(access: Access, stream: str) -> None:
    try:
        async with await Link.open(access, "read") as link:
            info = await stream_info(link, stream)
            left = info.state.messages
            place = await link.js.pull_subscribe("", stream=stream, config=_UNACKED)
            while left:
                for message in await place.fetch(min(left, READ_TOGETHER), timeout=PATIENCE):
                    print(message.data.decode(errors="replace"))
                    left -= 1
    except (BusUnavailable, nats.errors.Error) as error:
        raise FatalError(f"read: {stream}: {error}") from None


def status() -> int:
    """Print what the publisher of this stack last said, as JSON; 1 if there is none."""
    settings = settings_or_exit("status")
    found = read_status(mark_path(store_path(settings)))
    if found is None:
        print(
            f"status: nothing has published {store_path(settings)} yet: python -m app.bus shard",
            file=sys.stderr,
        )
        return EXIT_FAULT
    print(json.dumps(found))
    return EXIT_OK if found["connected"] else EXIT_FAULT
