"""A pull consumer of a shard's stream: from a place on, in order, a bounded number under way.

The consumer is the broker's, in memory, and disposable: when it is gone, another one begins after
the last message that arrived.
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final

import nats.errors
from nats.aio.msg import Msg
from nats.js import api
from nats.js.errors import APIError, NotFoundError

from app.bus.link.connection import BusRefused, BusUnavailable, Link
from app.bus.link.streams import ask

BATCH: Final = 64
"""Messages of one request; another is sent when half of them have arrived."""
EXPIRES_S: Final = 30
HEARTBEAT_S: Final = 2
SILENT_S: Final = 5.0
"""Without message and heartbeat for so long, the consumer is taken for gone."""
INACTIVE_S: Final = 30.0
_NS: Final = 1_000_000_000


class ConsumerGone(Exception):
    """The broker has no such consumer any more: make another one."""


async def pull(link: Link, stream: str, after: int) -> AsyncIterator[Msg]:
    """The messages after place ``after``, as they come, without end.

    Raises:
        BusUnavailable: the connection is lost.
        BusRefused: this user may not read the stream.
    """
    while True:
        try:
            async for message in _pull(link, stream, after):
                after = message.metadata.sequence.stream
                yield message
        except ConsumerGone:
            await asyncio.sleep(0.2)
        if link.lost.is_set():
            raise BusUnavailable(link.why)


async def _pull(link: Link, stream: str, after: int) -> AsyncIterator[Msg]:
    name = await _make(link, stream, after)
    inbox = link.client.new_inbox()
    subscription = await link.client.subscribe(inbox)
    asked = 0
    try:
        while True:
            if asked <= BATCH // 2:
                await _request(link, stream, name, inbox)
                asked += BATCH
            message = await _next(link, subscription.next_msg(SILENT_S))
            status = (message.headers or {}).get("Status") if not message.data else None
            if status is None or not message.reply.startswith("$JS.ACK."):
                if status == "100":
                    continue
                if status == "408":  # the request has waited long enough
                    pending = (message.headers or {}).get("Nats-Pending-Messages", str(BATCH))
                    asked = max(0, asked - int(pending))
                    continue
                if status is not None:
                    raise ConsumerGone(status)
            asked -= 1
            yield message
    finally:
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()


async def _next(link: Link, coming: Coroutine[Any, Any, Msg]) -> Msg:
    """The next message; the connection may be lost meanwhile."""
    waiting = asyncio.ensure_future(coming)
    lost = asyncio.ensure_future(link.lost.wait())
    try:
        await asyncio.wait({waiting, lost}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise BusUnavailable(link.why)
        return waiting.result()
    except nats.errors.TimeoutError:
        raise ConsumerGone("silent") from None
    except nats.errors.Error as error:
        raise BusUnavailable(str(error)) from None
    finally:
        waiting.cancel()
        lost.cancel()


async def _request(link: Link, stream: str, consumer: str, inbox: str) -> None:
    subject = f"{link.api}.CONSUMER.MSG.NEXT.{stream}.{consumer}"
    wanted = {
        "batch": BATCH,
        "expires": EXPIRES_S * _NS,
        "idle_heartbeat": HEARTBEAT_S * _NS,
    }
    if link.denied(subject):
        raise BusRefused(f"BUS_CREDS: the broker does not let this user ask {subject}")
    try:
        await link.client.publish(subject, json.dumps(wanted).encode(), reply=inbox)
    except nats.errors.Error as error:
        raise BusUnavailable(str(error)) from None


async def _make(link: Link, stream: str, after: int) -> str:
    name = f"gateway-{secrets.token_hex(8)}"
    config = api.ConsumerConfig(
        name=name,
        deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=after + 1,
        ack_policy=api.AckPolicy.NONE,
        inactive_threshold=INACTIVE_S,
        mem_storage=True,
        num_replicas=1,
        max_deliver=1,
    )
    try:
        await ask(link, f"CONSUMER.CREATE.{stream}.{name}", link.js.add_consumer(stream, config))
    except NotFoundError:
        raise BusUnavailable(f"no stream {stream} yet") from None
    except APIError as error:
        raise BusUnavailable(f"stream {stream}: {error.description}") from None
    return name
