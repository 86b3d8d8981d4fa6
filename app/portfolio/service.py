"""The portfolio without a bus: takes messages, keeps books and limits, decides controls.

A batch of messages of one stream is taken as a whole, and what it changes is one transaction of
the state file: fills, the stream's sequence, the breach that they cause, and the controls that
follow from it.  Only then may a control be sent.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

import apsw

from app.model.timestamps import DAY_NS
from app.portfolio.books import RunKey
from app.portfolio.fills import FillError, decode_fill
from app.portfolio.limits import Breach, Limit, Watch, values_of
from app.portfolio.state import Control, ShardState, State
from app.runtime.log import get_logger

log = get_logger()

REFUSED_LOGGED: Final = 5
"""Messages of a shard that are no fills: so many get a line each, the others are counted."""
SILENT_MAX_S: Final = 30.0
"""Limits wait no longer for a shard of which nothing has come for so long."""
WAIT_MAX_S: Final = 600.0
"""Nor for one that has not caught up within this, whatever comes."""


class Message(NamedTuple):
    """One message of a shard's stream.  ``seq``: its sequence there; ``marks``: its header
    ``Marks``, which names the order store."""

    seq: int
    data: bytes
    marks: str = ""


class Wait:
    """A shard that catches up; times are those of CLOCK_MONOTONIC."""

    __slots__ = ("began_s", "heard_s")

    def __init__(self, now_s: float) -> None:
        self.began_s = self.heard_s = now_s

    def is_over(self, now_s: float) -> bool:
        """Whether it has taken too long."""
        return now_s - self.heard_s > SILENT_MAX_S or now_s - self.began_s > WAIT_MAX_S


class NotStored(Exception):
    """The state file could not be written; the books are as they were before the batch."""


class Portfolio:
    """Books, limits and controls, and the file that has them."""

    def __init__(
        self,
        state: State,
        limits: list[Limit],
        clock_ns: Callable[[], int] = time.time_ns,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state, self._limits = state, limits
        self._clock_ns, self._monotonic_s = clock_ns, monotonic_s
        self._waiting: dict[str, Wait] = {}
        """Shards whose stream has more than the books, as far as was known when it was asked."""
        self.unsent = 0
        """Controls that a stream does not have yet."""
        self.reload()

    def reload(self) -> None:
        """Take everything from the file."""
        self.books = self.state.load_books()
        self.shards = self.state.load_shards()
        self.watch = Watch(
            self._limits, self.state.active_breaches(), self.state.last_breach_number()
        )
        self.unsent = len(self.state.unsent_controls())

    # ---- Shards

    def know(self, shard: str) -> ShardState:
        """The state of a shard; it counts as one from here on, also without fills."""
        return self.shards.setdefault(shard, ShardState(shard))

    def behind(self, shard: str) -> None:
        """The stream has more for a shard than the books: limits wait until :meth:`caught_up`.

        Else a start from an empty file, or the first messages after an hour without the bus, would
        pass in review each limit that was passed long ago.  They wait for :data:`SILENT_MAX_S`
        without a message at most, and for :data:`WAIT_MAX_S` altogether.
        """
        now_s = self._monotonic_s()
        self._waiting.setdefault(shard, Wait(now_s)).heard_s = now_s

    def caught_up(self, shard: str) -> None:
        """The books have what the stream had when it was asked, or there is no stream.

        Raises:
            NotStored: as :meth:`look`; it is looked again soon.
        """
        if self._waiting.pop(shard, None):
            self.look()

    def _end_waits(self) -> None:
        """Whoever cannot be read holds back no limit forever: what is known is judged."""
        now_s = self._monotonic_s()
        for shard in [each for each, wait in self._waiting.items() if wait.is_over(now_s)]:
            del self._waiting[shard]
            log.warning(
                "limits_wait_no_longer",
                shard=shard,
                reason="its stream was not read to its end in time: what is known is judged",
            )

    @property
    def judges(self) -> bool:
        """Whether limits are looked at."""
        return not self._waiting

    def restart_stream(self, shard: str, stream: str) -> None:
        """The shard's stream is another one than before: its sequence begins again.

        What it repeats is known by the fills' own keys.
        """
        before = self.know(shard)
        if before.stream:
            log.warning("stream_restarted", shard=shard, was=before.stream, now=stream)
        self._write_shard(before._replace(stream=stream, seq=0))

    def skip_to(self, shard: str, first_seq: int, lost: int) -> None:
        """The stream begins at ``first_seq``; what was before is gone, unread."""
        log.error(
            "messages_lost",
            shard=shard,
            messages=lost,
            fix="compare with the order stores: python -m app portfolio verify STORE...",
        )
        before = self.know(shard)
        self._write_shard(before._replace(seq=first_seq - 1, lost=before.lost + lost))

    def _write_shard(self, after: ShardState) -> None:
        try:
            with self.state.change():
                self.state.write_shard(after)
        except apsw.Error as error:
            raise NotStored(str(error)) from error
        self.shards[after.shard] = after

    # ---- Messages

    def take(self, shard: str, messages: Iterable[Message]) -> int:
        """Take messages of a shard's stream in one transaction; returns how many were new fills.

        One whose sequence is not above the shard's has been taken, whatever it says.

        Raises:
            NotStored: nothing of the batch was taken; offer it again.
        """
        before = after = self.know(shard)
        for message in messages:
            if message.seq > after.seq:
                after = self._take_one(after, message)
        if after == before:
            return 0
        if wait := self._waiting.get(shard):
            wait.heard_s = self._monotonic_s()
        try:
            with self.state.change():
                self.state.write_books(self.books)
                self.state.write_shard(after)
                self.shards[shard] = after
                self._judge()
        except apsw.Error as error:
            self.reload()
            raise NotStored(str(error)) from error
        return after.fills - before.fills

    def _take_one(self, shard: ShardState, message: Message) -> ShardState:
        try:
            fill = decode_fill(message.data, message.marks)
        except FillError as error:
            if shard.refused < REFUSED_LOGGED:
                log.error("fill_refused", shard=shard.shard, seq=message.seq, reason=str(error))
            return shard._replace(seq=message.seq, refused=shard.refused + 1)
        latest = self.books.current.get(shard.shard)
        if not self.books.apply(shard.shard, fill):
            return shard._replace(seq=message.seq, repeats=shard.repeats + 1)
        _say_run(latest, self.books.current[shard.shard])
        return shard._replace(
            seq=message.seq,
            fills=shard.fills + 1,
            last_fill_ns=max(shard.last_fill_ns, fill.at_ns),
        )

    def look(self) -> None:
        """Between messages: a new day, a new price, a new shard, the end of a catch-up.

        Raises:
            NotStored: nothing has changed.
        """
        try:
            with self.state.change():
                self.books.begin_day(self._clock_ns() // DAY_NS)
                self.state.write_books(self.books)
                self._end_waits()
                self._judge()
        except apsw.Error as error:
            self.reload()
            raise NotStored(str(error)) from error

    def see_prices(self, prices: Mapping[str, int]) -> None:
        """Prices of the market, units of 1e-9, by symbol; they count from the next look on.

        Raises:
            NotStored: nothing has changed; see them again.
        """
        now_ns = self._clock_ns()
        if now_ns // DAY_NS > self.books.day:
            self.look()  # the day begins at the prices before these
        self.books.set_market(prices, now_ns)

    # ---- Limits

    def _judge(self) -> None:
        """Compare with the limits; inside a transaction."""
        if not self.judges:
            return
        now_ns = self._clock_ns()
        begun, ended = self.watch.look(values_of(self.books.total()), now_ns)
        for breach in begun:
            log.error("limit_passed", limit=breach.limit, mode=breach.mode, reason=breach.reason)
            self.state.begin_breach(breach)
        for breach in ended:
            log.warning("limit_kept_again", limit=breach.limit, fix="resume each shard by hand")
            self.state.end_breach(breach.number, now_ns)
        for breach in self.watch.active.values():
            for shard in sorted(self.shards):
                self._tell(breach, shard, now_ns)

    def _tell(self, breach: Breach, shard: str, now_ns: int) -> None:
        """Have a control for a shard, once a breach; also for one that is first seen during it."""
        control = Control(
            f"portfolio-{self.state.name}-{breach.number}-{shard}",
            breach.number,
            shard,
            breach.mode,
            breach.reason,
            now_ns,
        )
        if self.state.add_control(control):
            self.unsent += 1

    def control_arrived(self, control: Control, seq: int) -> None:
        """The shard's stream has a control.

        Raises:
            NotStored: it is sent again, which changes nothing.
        """
        try:
            self.state.control_arrived(control.id, seq, self._clock_ns())
        except apsw.Error as error:
            raise NotStored(str(error)) from error
        self.unsent -= 1


def _say_run(before: RunKey | None, now: RunKey) -> None:
    """Log that another run is the shard's latest."""
    if before is None or before == now:
        return
    if before.store != now.store:
        log.error(
            "order_store_changed",
            shard=now.shard,
            was=before.store,
            now=now.store,
            run=now.run,
            fix="if nobody has replaced it: find out who publishes as this shard",
        )
    else:
        log.info("run_replaced", shard=now.shard, was=before.run, now=now.run)
