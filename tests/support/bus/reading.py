"""What a stream holds, read as any consumer does."""

import asyncio
import json
from typing import Any, NamedTuple

import nats.errors
from nats.js import api

from app.bus.link import names
from app.bus.link.access import bus_access
from app.bus.link.connection import BusUnavailable, Link
from app.config.settings import Settings
from tests.support.bus.broker import Cluster
from tests.support.children import eventually


class Stored(NamedTuple):
    """One message of a stream."""

    seq: int
    subject: str
    headers: dict[str, str]
    data: bytes
    stored_s: float
    """When the broker has stored it (its wall clock)."""

    @property
    def json(self) -> dict[str, Any]:
        """Its body."""
        found = json.loads(self.data)
        assert isinstance(found, dict)
        return found


async def stored(link: Link, stream: str) -> list[Stored]:
    """All messages of a stream, in order."""
    total = (await link.js.stream_info(stream)).state.messages
    place = await link.js.pull_subscribe(
        "", stream=stream, config=api.ConsumerConfig(ack_policy=api.AckPolicy.NONE)
    )
    found: list[Stored] = []
    while len(found) < total:
        for m in await place.fetch(min(500, total - len(found)), timeout=10):
            seq, at_s = m.metadata.sequence.stream, m.metadata.timestamp.timestamp()
            found.append(Stored(seq, m.subject, dict(m.headers or {}), m.data, at_s))
    return found


def read_stream(cluster: Cluster, stream: str, **more: object) -> list[Stored]:
    """:func:`stored`, over a connection of its own; ``more``: settings, such as BUS_USER."""

    async def run() -> list[Stored]:
        settings = Settings.from_environ(cluster.environ(**more))
        async with await Link.open(bus_access(settings), "test-reader") as link:
            return await stored(link, stream)

    # A consumer of a stream whose leader has just changed may have none itself for a moment.
    transient = (nats.errors.Error, BusUnavailable, TimeoutError)
    (found,) = eventually(
        lambda: (asyncio.run(run()),), f"{stream} can be read", 60, poll_s=0.5, ignore=transient
    )
    return found


def read_out(cluster: Cluster, shard: str, **more: object) -> list[dict[str, Any]]:
    """What a shard has published; fails if a message is there twice, or on the wrong subject."""
    found = read_stream(cluster, names.out_stream(shard), **more)
    ids = [message.headers[names.MSG_ID] for message in found]
    assert len(set(ids)) == len(ids)
    for message in found:
        kind = "fills" if "fill_no" in message.json else "orders"
        assert message.subject == f"{kind}.{shard}"
    return [message.json for message in found]
