"""Reads a shard's stream from a place on, in order, a bounded number of messages under way.

By batches of direct gets, not by a consumer of the broker's: whoever may make a consumer may let it
deliver to any subject of the streams' account, into another shard's stream, too.  The answers to a
get come back into the asker's own account.  And a reader leaves nothing behind on the brokers.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from app.bus.link import names
from app.bus.link.connection import BusRefused, BusUnavailable, Link

BATCH: Final = 256
"""Messages of one request."""
BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
SILENT_S: Final = 5.0
"""A request that brings nothing for so long is sent again: its broker may be gone."""
RETRY_S: Final = 0.001
"""Before the first look at a copy that has not got what the stream has."""
LOOK_S: Final = 0.25
"""Between two looks without news: news may be lost, what is stored is not."""
_PLACE: Final = "Nats-Sequence"
_STATUS: Final = "Status"
_END: Final = ("204", "404")
"""The end of a batch; no message there."""


class Stored(NamedTuple):
    """A message as the stream has it."""

    place: int
    """Its number in the stream."""
    headers: dict[str, str]
    data: bytes


async def pull(link: Link, shard: str, after: int) -> AsyncIterator[Stored]:
    """The messages of ``md.<shard>`` after place ``after``, as they come, without end.

    Raises:
        BusUnavailable: the connection is lost.
        BusRefused: this user may not read the stream.
    """
    news = asyncio.Event()

    async def heard(_message: Msg) -> None:
        news.set()

    try:
        subscription = await link.client.subscribe(names.news_subject(shard), cb=heard)
    except nats.errors.Error as error:
        raise BusUnavailable(str(error)) from None
    pause_s = LOOK_S
    try:
        while True:
            if news.is_set():
                news.clear()
                pause_s = RETRY_S
            found = False
            async for stored in _batch(link, shard, after):
                after, found = stored.place, True
                yield stored
            if found:
                pause_s = RETRY_S
                continue
            await _wait(link, news, pause_s)
            pause_s = min(2 * pause_s, LOOK_S)
    finally:
        await _end(subscription)


async def _batch(link: Link, shard: str, after: int) -> AsyncIterator[Stored]:
    """The next messages that are stored, at most :data:`BATCH`; none if there are none."""
    subject = f"{link.api}.DIRECT.GET.{names.md_stream(shard)}"
    wanted = {
        "seq": after + 1,
        "next_by_subj": names.md_subject(shard),
        "batch": BATCH,
        "max_bytes": BATCH_BYTES_MAX,
    }
    inbox = link.client.new_inbox()
    try:
        subscription = await link.client.subscribe(inbox)
        await link.client.publish(subject, json.dumps(wanted).encode(), reply=inbox)
    except nats.errors.Error as error:
        raise BusUnavailable(str(error)) from None
    try:
        while True:
            message = await _next(link, subscription, subject)
            if message is None:
                return
            headers = message.headers or {}
            if not message.data and headers.get(_STATUS) in _END:
                return
            if _PLACE not in headers:
                raise BusUnavailable(f"{subject}: {headers.get('Description') or headers}")
            yield Stored(int(headers[_PLACE]), headers, message.data)
    finally:
        await _end(subscription)


async def _next(link: Link, subscription: Subscription, subject: str) -> Msg | None:
    """The next answer; None if none comes.  The connection may be lost meanwhile."""
    waiting = asyncio.ensure_future(subscription.next_msg(SILENT_S))
    lost = asyncio.ensure_future(link.lost.wait())
    try:
        await asyncio.wait({waiting, lost}, return_when=asyncio.FIRST_COMPLETED)
        if link.denied(subject):
            raise BusRefused(f"BUS_CREDS: the broker does not let this user ask {subject}")
        if not waiting.done():
            raise BusUnavailable(link.why)
        return waiting.result()
    except nats.errors.TimeoutError:
        return None
    except nats.errors.Error as error:
        raise BusUnavailable(str(error)) from None
    finally:
        waiting.cancel()
        lost.cancel()


async def _wait(link: Link, news: asyncio.Event, pause_s: float) -> None:
    """Until there is news, or the pause is over."""
    if link.lost.is_set():
        raise BusUnavailable(link.why)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(news.wait(), pause_s)


async def _end(subscription: Subscription) -> None:
    with contextlib.suppress(nats.errors.Error):
        await subscription.unsubscribe()
