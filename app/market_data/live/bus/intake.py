"""Which messages of a shard's stream are applied: each once, in order, of one run.

Pure: no clock and no socket.  The rules, for a message at place ``n`` of the stream after the
message at place ``m`` was applied:

==============================  =================================================================
``n <= m``                      seen before: dropped, and counted
``n > m + 1``                   :class:`Gap`: nothing is applied; the stream is asked from ``m + 1``
ticks that do not follow        :class:`Unusable`: the stream itself is wrong
a run without its beginning     :class:`Unusable`: the stream has made room for later messages
another run begins before end   :class:`Unusable`: this run was given up, and has no more ticks
another map without its mark    :class:`Unusable`
anything after the end          dropped: it is not of this run
==============================  =================================================================
"""

from typing import Final

from app.market_data.live.bus.batch import Kind, Message

ROOM: Final = (
    "a full stream drops its oldest ticks: raise BUS_FEED_BYTES_MAX (python -m app.bus setup), and "
    "begin another run (RUN_ID of the sequencer)"
)


class Gap(Exception):
    """Messages between the last and this one did not arrive: ask again from ``wanted`` on."""

    def __init__(self, wanted: int, got: int) -> None:
        super().__init__(f"messages {wanted} to {got - 1} did not arrive")
        self.wanted, self.got = wanted, got


class Unusable(Exception):
    """The stream holds what no sequencer of this run has sent; a restart does not help."""


class BatchIntake:
    """Where the run has got to: ``place`` in the stream, next tick ``seq``, ``map_version``."""

    def __init__(self) -> None:
        self.place = 0
        self.run = ""
        self.seq = self.map_version = 0
        self.last_ns = 0
        self.ended = False
        self.repeated = 0

    def wants(self, place: int, message: Message) -> bool:
        """Whether to apply the message; False: drop it.

        Raises:
            Gap: messages before it are missing.
            Unusable: see the module.
        """
        if self.ended or (self.run and place <= self.place):
            self.repeated += 1
            return False
        if not self.run:
            if message.kind is not Kind.BEGIN:
                raise Unusable(
                    f"the beginning of run {message.run} is not in the stream any more, which "
                    f"starts with message {place}: {ROOM}"
                )
            return True
        if place > self.place + 1:
            raise Gap(self.place + 1, place)
        if message.run != self.run or message.kind is Kind.BEGIN:
            raise Unusable(
                f"run {message.run} begins at message {place}, before run {self.run} has ended: "
                f"follow it in another run (DATA_PATH=nats://md.SHARD/{message.run})"
            )
        if message.seq_first != self.seq:
            raise Unusable(f"message {place} begins with tick {message.seq_first}, not {self.seq}")
        step = 1 if message.kind is Kind.MAP else 0
        if message.map_version < self.map_version + step or (
            not step and message.map_version != self.map_version
        ):
            raise Unusable(
                f"message {place} is of map version {message.map_version} after version "
                f"{self.map_version}, without a mark of the change"
            )
        return True

    def applied(self, place: int, message: Message, last_ns: int) -> None:
        """The message is in the recording; ``last_ns``: time of its last tick, or of before."""
        self.place, self.run = place, message.run
        self.seq, self.map_version = message.seq_end, message.map_version
        self.last_ns = last_ns
        self.ended = message.kind is Kind.END
