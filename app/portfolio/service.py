"""The portfolio without a bus: takes messages, keeps books and limits, decides controls.

A batch of messages of one stream is taken as a whole, and what it changes is one transaction of
the state file: fills, the stream's sequence, the breach that they cause, and the controls that
follow from it.  Only then may a control be sent.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import apsw

from app.model.timestamps import DAY_NS
from app.portfolio.books import Key
from app.portfolio.fills import FillError, decode_fill
from app.portfolio.limits import Breach, Limit, Watch, values_of
from app.portfolio.state import Control, ShardState, State
from app.runtime.log import get_logger

log = get_logger()

REFUSED_LOGGED: Final = 5
"""Messages of a shard that are no fills: so many get a line each, the others are counted."""


class Message(NamedTuple):
    """One message of a shard's stream; ``seq``: its sequence there."""

    seq: int
    data: bytes


class NotStored(Exception):
    """The state file could not be written; the books are as they were before the batch."""


class Portfolio:
    """Books, limits and controls, and the file that has them."""

    def __init__(
        self, state: State, limits: list[Limit], clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.state, self._limits, self._clock_ns = state, limits, clock_ns
        self._waiting: set[str] = set()
        """Shards whose stream has more than the books, as far as was known at the start."""
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

        Else a start from an empty file would pass in review each limit that was passed long ago.
        """
        self._waiting.add(shard)

    def caught_up(self, shard: str) -> None:
        """The books have what the stream had when it was first asked, or it cannot be asked.

        Raises:
            NotStored: as :meth:`look`; it is looked again soon.
        """
        if shard in self._waiting:
            self._waiting.discard(shard)
            self.look()

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
        before = self.know(shard)
        keys: set[Key] = set()
        runs: set[Key] = set()
        day = self.books.day
        after = before
        for message in messages:
            if message.seq > after.seq:
                after = self._take_one(after, message, keys, runs)
        if after == before:
            return 0
        if self.books.day != day:  # every holding has another opening
            keys = set(self.books.holdings)
        try:
            with self.state.change():
                self.state.write_books(self.books, keys, runs)
                self.state.write_shard(after)
                self.shards[shard] = after
                self._judge()
        except apsw.Error as error:
            self.reload()
            raise NotStored(str(error)) from error
        return after.fills - before.fills

    def _take_one(
        self, shard: ShardState, message: Message, keys: set[Key], runs: set[Key]
    ) -> ShardState:
        try:
            fill = decode_fill(message.data)
        except FillError as error:
            if shard.refused < REFUSED_LOGGED:
                log.error("fill_refused", shard=shard.shard, seq=message.seq, reason=str(error))
            return shard._replace(seq=message.seq, refused=shard.refused + 1)
        if not self.books.apply(shard.shard, fill):
            return shard._replace(seq=message.seq, repeats=shard.repeats + 1)
        keys.add((shard.shard, fill.symbol))
        runs.add((shard.shard, fill.run))
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
                if self.books.begin_day(self._clock_ns() // DAY_NS):
                    self.state.write_books(self.books, self.books.holdings, ())
                self._judge()
        except apsw.Error as error:
            self.reload()
            raise NotStored(str(error)) from error

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
