"""Publishes what an order store has and the stream has not, each row once.

The stream says what it has: the header ``Marks`` of its last message.  Every message names the
sequence number that the stream must end with, so it is stored in its place or not at all, whatever
was lost, repeated or sent by another publisher meanwhile; that one wants the same row there
(:mod:`app.bus.outbox.rows`).  Then the stream is asked again.

A place that somebody else has taken, who may not write here, would move the others by one, and a
row would be missing: :meth:`Publisher.sync` looks for that.  No message names the id of the one
before (``Nats-Expected-Last-Msg-Id``): every copy of the stream checks that by itself, and one that
has caught up after a restart does not know the id, refuses what the others have taken, and stays
behind for ever (nats-server 2.15.1).
"""

import asyncio
import itertools
import math
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, Self

from nats.js.errors import NotFoundError

from app.bus.link import names
from app.bus.link.acks import Ack, AckRefused, Acks
from app.bus.link.connection import BusRefused, BusUnavailable, Link
from app.bus.link.streams import ask, stream_info
from app.bus.outbox.mark_file import MarkFile
from app.bus.outbox.rows import FILL, ORDER, Digests, Item, Marks, digest_of, items
from app.bus.outbox.store_reader import StoreReader
from app.runtime.lifecycle import FatalError
from app.runtime.log import get_logger

log = get_logger()

WINDOW: Final = 256
"""Messages under way at most."""
ACK_TIMEOUT_S: Final = 4.0
"""A stream without a leader, or without a majority, answers nothing, also later.  About as long as
the servers need to choose another one: then the stream is asked what it has."""
WRONG_LAST: Final = frozenset({10071, 10164})
"""Codes of the broker: the stream does not end with the number that a message names."""
FOREIGN_MAX: Final = 1000
"""Messages without marks at the stream's end that are passed over."""
PUBLISHER: Final = "Publisher"
"""Header: the epoch of the publisher, and who it is.

An epoch is one more than that of the message which the stream ended with when its publisher began,
or when it found another's of the same epoch there: who is later is said by the stream, and by no
clock.
"""


class Resync(Exception):
    """Ask the stream what it has, and go on from there.  The message says why."""


class Counts:
    """Since the start of the process: messages that were sent, that the stream has taken
    (``published``), that the broker has refused for want of room or a majority; times the stream
    was asked again what it has; connections made."""

    def __init__(self) -> None:
        self.sent = self.published = self.refused = self.resyncs = self.connections = 0


class Last(NamedTuple):
    """What the stream's last message with marks says; nothing if there is none."""

    marks: Marks
    digests: Digests = Digests()
    run: str = ""
    epoch: int = 0
    who: str = ""

    @classmethod
    def parse(cls, headers: Mapping[str, str]) -> Self:
        """From its headers.

        Raises:
            ValueError: they are not those of a publisher.
        """
        epoch, _, who = headers.get(PUBLISHER, "").partition(" ")
        return cls(
            Marks.parse(headers.get(names.MARKS, "")),
            Digests.parse(headers.get(names.DIGESTS, "")),
            headers.get(names.MSG_ID, "").rsplit(":", 2)[0],
            int(epoch or 0),
            who,
        )


class Publisher:
    """Publishes one store into one stream, over one link at a time."""

    def __init__(self, shard: str, store: StoreReader, marks: MarkFile) -> None:
        self._store, self._file, self._shard = store, marks, shard
        self._stream = names.out_stream(shard)
        self._subjects = {FILL: names.fills_subject(shard)}
        self._orders = names.orders_subject(shard)
        self._who = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._epoch = 0
        """Of this publisher; 0 before it has seen the stream."""
        self._acks: tuple[Link, Acks] | None = None
        self._created = ""
        self._seq = self._opened = 0
        self.marks = marks.last_marks(self._stream)
        """What the stream has acknowledged; before the first :meth:`sync`, as far as is known."""
        self._digests = Digests()
        self.counts = Counts()
        self.progress_s = -math.inf
        """When the stream last had everything, or took a message (CLOCK_MONOTONIC); never yet."""

    async def sync(self, link: Link) -> None:
        """Learn what the stream has.

        Raises:
            BusRefused: it has orders of another store, more of this one than the store, or a gap.
            BusUnavailable: no answer; a later attempt may succeed.
            FatalError: a later publisher of this shard is at work.
        """
        info = await stream_info(link, self._stream)
        if self._acks is None or self._acks[0] is not link:
            self._acks = link, await Acks.open(link)
        self._created = str(info.created)
        self._seq = info.state.last_seq
        self._opened = self._reopened()
        tail = await self._tail(link, info.state.first_seq)
        last = tail[-1][1] if tail else Last(Marks(self._store_id() or "-"))
        self._check(last)
        self._check_places(tail)
        self._take_epoch(last)
        found = last.marks
        known_seq, known = self._file.marks(self._stream, self._created)
        if known_seq > self._seq or (known.store == found.store and found.behind(known)):
            # Nothing is lost: it is in the store, and follows again.
            log.error(
                "bus_lost_messages",
                stream=self._stream,
                acknowledged=known.text(),
                has=found.text(),
                action="they are published again",
            )
        self.marks, self._digests = found, last.digests

    def _take_epoch(self, last: Last) -> None:
        """Be later than who wrote the last message, unless that one is later already.

        One of the same epoch began before any message of that epoch was stored: most often a killed
        publisher, whose last messages arrived after this one first asked.  If it lives, it ends at
        the next message of this one.
        """
        other = last.who != self._who
        if not self._epoch or (other and last.epoch == self._epoch):
            self._epoch = last.epoch + 1
        elif other and last.epoch > self._epoch:
            raise FatalError(
                f"{self._stream}: another process that began later publishes this shard "
                f"({last.who}); this one ends"
            )

    def _reopened(self) -> int:
        self._store.changed()
        return self._store.opened

    def _store_id(self) -> str:
        last = self._store.last()
        return "" if last is None else last.store

    async def _tail(self, link: Link, first: int) -> list[tuple[int, Last]]:
        """Number of each message that has marks: those of a window, or the last one before it."""
        begin = max(first, self._seq - WINDOW, 1)
        places = range(begin, self._seq + 1)
        found = await asyncio.gather(*(self._message(link, seq) for seq in places))
        if tail := [(seq, each) for seq, each in zip(places, found, strict=True) if each]:
            return tail
        for seq in range(begin - 1, max(first, self._seq - FOREIGN_MAX, 1) - 1, -1):
            if (last := await self._message(link, seq)) is not None:
                return [(seq, last)]
        if self._seq - first >= FOREIGN_MAX:
            raise BusRefused(
                f"{self._stream}: its last {FOREIGN_MAX} messages are none of a shard's: somebody "
                "else writes to it; find out who may, and publish under another SHARD"
            )
        return []

    async def _message(self, link: Link, seq: int) -> Last | None:
        """What a message of the stream says; None if it is not there, or somebody else's."""
        asked = link.js.get_msg(self._stream, seq)
        try:
            message = await ask(link, f"STREAM.MSG.GET.{self._stream}", asked)
            return Last.parse(message.headers or {})
        except NotFoundError:
            if seq == self._seq:
                # A new leader that has not got it yet.
                raise BusUnavailable(f"{self._stream}: has no message {seq} yet") from None
            return None
        except ValueError:
            log.warning("bus_foreign_message", stream=self._stream, seq=seq)
            return None

    def _check_places(self, tail: list[tuple[int, Last]]) -> None:
        """Refuse a stream that lacks a row among its last messages.

        Only those that were sent together can have lost their places, so a window is enough; who
        sends the next ones has looked here before.
        """
        for (_, before), (place, each) in itertools.pairwise(tail):
            if each.marks != before.marks and not self._store.follows(each.marks, before.marks):
                raise BusRefused(
                    f"{self._stream}: rows are missing before message {place}: another writer has "
                    f"taken their place; find out who may write to it, and make the stream again "
                    f"(python -m app.bus remove {self._stream} --yes, then setup)"
                )

    def _check(self, stream: Last) -> None:
        """Refuse a store that is not the one, or not the history, that the stream is of."""
        found, last = stream.marks, self._store.last()
        if not found.total:
            return
        if last is None:
            raise BusUnavailable(f"{self._store.path}: no order store yet")
        if found.store != last.store:
            raise BusRefused(
                f"{self._stream}: has orders of another store ({found.store}; that in "
                f"{self._store.path} is {last.store}): set another SHARD, or remove the stream"
            )
        if last.behind(found):
            raise BusRefused(
                f"{self._stream}: has {found.text()} of this store (orders:fills:changes), which "
                f"itself ends with {last.text()}: {self._store.path} is an older copy; put the "
                "newest in its place, or publish under another SHARD"
            )
        rows = zip(
            Digests._fields, found[1:], stream.digests, self._store.digests(found), strict=True
        )
        for kind, no, theirs, ours in rows:
            if theirs and ours and theirs != ours:
                raise BusRefused(
                    f"{self._stream}: {kind} {no} that shard {self._shard} has published (run "
                    f"{stream.run}) is another one in {self._store.path}, an older copy that has "
                    "gone on by itself: put the newest store in its place, or publish this one "
                    "under another SHARD"
                )

    async def publish_new(self, link: Link) -> int:
        """Publish all that the stream lacks; returns how much that was.

        Memory is bounded by a page of rows and a window of messages.  The first goes alone, to find
        out whether the stream still ends as expected.

        Raises:
            Resync: the stream did not take a message.
            BusUnavailable: the connection is lost, or nothing was answered in time.
        """
        if self._reopened() != self._opened:
            raise Resync(f"another file has the name {self._store.path}")
        assert self._acks is not None
        assert self._acks[0] is link, "sync comes first"
        acks, before = self._acks[1], self.counts.published
        waiting: deque[tuple[Item, int, asyncio.Future[Ack]]] = deque()
        try:
            for item, seq in zip(self._rows(), itertools.count(self._seq + 1), strict=False):
                future = await self._send(acks, item, seq)
                waiting.append((item, seq, future))
                most = WINDOW if self.counts.published > before else 1
                while waiting and (len(waiting) >= most or waiting[0][2].done()):
                    await self._acknowledged(link, *waiting.popleft())
            while waiting:
                await self._acknowledged(link, *waiting.popleft())
        finally:
            for _, _, future in waiting:
                future.cancel()
            if self.counts.published > before:
                self._file.acknowledged(self._stream, self._created, self._seq, self.marks)
        return self.counts.published - before

    def _rows(self) -> Iterator[Item]:
        """All rows after the marks, page by page."""
        marks, digests = self.marks, self._digests
        if marks.store == "-":
            marks = marks._replace(store=self._store_id() or "-")
        while True:
            before, page = marks, self._store.page(marks)
            # It begins with the last order that is published, for a store that is written over in
            # its place while it is open here.
            first = page.orders[0].message if page.orders and digests.order else None
            if first and first.order_no == marks.orders and digest_of(first) != digests.order:
                raise Resync(f"{ORDER} {marks.orders} is another one in {self._store.path} now")
            for item in items(page, marks, digests):
                marks, digests = item.marks, item.digests
                yield item
            if marks == before:
                return

    async def _send(self, acks: Acks, item: Item, seq: int) -> asyncio.Future[Ack]:
        headers = {
            names.MSG_ID: item.msg_id,
            names.EXPECTED_LAST_SEQ: str(seq - 1),
            names.EXPECTED_STREAM: self._stream,
            names.MARKS: item.marks.text(),
            names.DIGESTS: item.digests.text(),
            PUBLISHER: f"{self._epoch} {self._who}",
        }
        subject = self._subjects.get(item.kind, self._orders)
        self.counts.sent += 1
        return await acks.send(subject, item.body, headers)

    async def _acknowledged(
        self, link: Link, item: Item, seq: int, future: asyncio.Future[Ack]
    ) -> None:
        """Wait until the broker has a message.

        Raises:
            Resync: it does not.
            BusUnavailable: it does not say.
        """
        if not future.done():
            lost = asyncio.ensure_future(link.lost.wait())
            both: set[asyncio.Future[Any]] = {future, lost}
            try:
                await asyncio.wait(both, timeout=ACK_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                lost.cancel()
        if not future.done():
            why = f"the connection is lost: {link.why}" if link.lost.is_set() else "no answer"
            raise BusUnavailable(f"{self._stream}: {why}")
        try:
            ack = future.result()
        except AckRefused as error:
            if error.err_code in WRONG_LAST:
                raise Resync(f"it does not end with {seq - 1}") from None
            self.counts.refused += 1
            raise BusUnavailable(f"{self._stream}: a message is refused: {error}") from None
        if ack.duplicate or ack.seq != seq:
            raise Resync(f"message {item.msg_id} has number {ack.seq}, not {seq}")
        self._seq, self.marks, self._digests = seq, item.marks, item.digests
        self.counts.published += 1
        self.progress_s = time.monotonic()
