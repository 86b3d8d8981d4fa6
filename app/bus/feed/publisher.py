"""Publishes the messages of one shard: in order, a bounded number under way, and fenced.

Each message names the number that the stream ends with before it.  So messages are stored in order
or not at all, and a second sequencer is noticed by the broker: of two that both believe the stream
to be theirs, one message is refused, and who finds the other's message at the end gives way.
"""

import asyncio
import contextlib
from collections import deque
from typing import Final

import nats.errors
from nats.js import api
from nats.js.errors import APIError, NotFoundError

from app.bus.feed.map_log import WRONG_LAST
from app.bus.feed.split import Cursor
from app.bus.link import names
from app.bus.link.connection import BusRefused, BusUnavailable, Link
from app.bus.link.streams import ask
from app.market_data.live.bus.batch import (
    RUN_BEGIN,
    SEQUENCER,
    BatchError,
    Begin,
    Kind,
    Message,
    decode,
    encode,
    encode_begin,
)

ANY_RUN: Final = "*"
IN_FLIGHT: Final = 32
"""Messages under way for each shard: some megabytes at most."""
ACK_S: Final = 10.0


class Stale(Exception):
    """The stream does not end as expected: find out who has published."""


class Fenced(BusRefused):
    """Another sequencer has taken over."""


class Publisher:
    """Of one shard.  ``place`` is the stream's last number that this process knows of."""

    def __init__(self, shard: str, run: str, sequencer: str) -> None:
        self.shard, self._run, self._sequencer = shard, run, sequencer
        self.subject, self.stream = names.md_subject(shard), names.md_stream(shard)
        self.place = self._begin_place = 0
        self._known: int | None = None
        self._under_way: deque[tuple[int, asyncio.Future[api.PubAck]]] = deque()
        self._telling: set[asyncio.Future[None]] = set()
        self.published = 0

    async def recover(self, link: Link, give_up: str) -> Cursor | None:
        """Where to go on, from the last message of the stream; None: the run has not begun there.

        ``give_up``: a run without end that another one may follow; :data:`ANY_RUN`: whichever.

        Raises:
            Fenced: another process has published after this one.
            BusUnavailable, BusRefused: the stream cannot be read, or not be continued.
        """
        self._under_way.clear()
        subject = f"STREAM.MSG.GET.{self.stream}"
        try:
            last = await ask(link, subject, link.js.get_last_msg(self.stream, self.subject))
        except NotFoundError:
            self.place = self._known = 0
            return None
        headers, place = last.headers or {}, last.seq or 0
        owner = headers.get(SEQUENCER, "")
        if self._known is not None and place != self._known and owner != self._sequencer:
            raise Fenced(
                f"md.{self.shard}: sequencer {owner} publishes there now, and this one "
                f"({self._sequencer}) ends: keep one"
            )
        self.place = self._known = place
        try:
            message = decode(headers, last.data or b"")
        except BatchError as error:
            raise BusRefused(f"md.{self.shard}: message {place}: {error}") from None
        if message.run != self._run:
            if message.kind is not Kind.END and give_up not in (message.run, ANY_RUN):
                raise BusRefused(
                    f"md.{self.shard}: run {message.run} has no end: set RUN_ID={message.run} to "
                    f"go on with it, or give it up with --give-up {message.run}"
                )
            return None
        self._begin_place = place if message.kind is Kind.BEGIN else int(headers[RUN_BEGIN])
        cursor = Cursor(self.shard, message.seq_end, message.source_next, message.map_version)
        cursor.ended = message.kind is Kind.END
        return cursor

    async def begin(self, link: Link, begin: Begin, map_version: int) -> Cursor:
        """Publish the first message of the run, and wait for it.

        Raises:
            Stale, BusUnavailable: as :meth:`publish`.
        """
        message = Message(Kind.BEGIN, self._run, map_version, 0, 0, 0, encode_begin(begin))
        await self.publish(link, message)
        await self.settle(link)
        self._begin_place = self.place
        return Cursor(self.shard, 0, 0, map_version)

    async def publish(self, link: Link, message: Message) -> None:
        """Send one message; waits while too many are under way.

        Raises:
            Stale: an earlier one, or this one, does not follow the stream's last.
            BusUnavailable: whether it was stored is not known.
        """
        while len(self._under_way) >= IN_FLIGHT:
            await self._acknowledged(link)
        headers = encode(message) | {
            SEQUENCER: self._sequencer,
            names.EXPECTED_LAST_SEQ: str(self.place),
        }
        if message.kind is not Kind.BEGIN:
            headers[RUN_BEGIN] = str(self._begin_place)
        try:
            future = await link.js.publish_async(self.subject, message.body, headers=headers)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise BusUnavailable(f"md.{self.shard}: {error or type(error).__name__}") from None
        future.add_done_callback(lambda ack: self._tell(link, ack))
        self.place += 1
        self._under_way.append((self.place, future))

    async def settle(self, link: Link) -> None:
        """Wait until all are acknowledged.

        Raises:
            Stale, BusUnavailable: as :meth:`publish`.
        """
        while self._under_way:
            await self._acknowledged(link)

    def _tell(self, link: Link, ack: asyncio.Future[api.PubAck]) -> None:
        """Readers wait for news: they look by themselves, but later."""
        if not (ack.cancelled() or ack.exception() or link.lost.is_set()):
            telling = asyncio.ensure_future(_send(link, names.news_subject(self.shard)))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    async def _acknowledged(self, link: Link) -> None:
        place, future = self._under_way[0]
        try:
            async with asyncio.timeout(ACK_S):
                ack = await asyncio.shield(future)
        except APIError as error:
            if error.err_code == WRONG_LAST:
                raise Stale from None
            raise BusUnavailable(f"md.{self.shard}: {error.description}") from None
        except (nats.errors.Error, TimeoutError) as error:
            if link.denied(self.subject):
                raise BusRefused(f"BUS_CREDS: this user may not send to {self.subject}") from None
            reason = str(error) or "no acknowledgement in time"
            raise BusUnavailable(f"md.{self.shard}: {reason}") from None
        if ack.seq != place:
            raise Stale
        self._under_way.popleft()
        self._known = place
        self.published += 1


async def _send(link: Link, subject: str) -> None:
    with contextlib.suppress(nats.errors.Error, OSError):
        await link.client.publish(subject)
