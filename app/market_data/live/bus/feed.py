"""The feed of a shard's run: its recording of the stream so far.

The gateway makes it grow; a second computation of the run (compare, proof) follows the file.
"""

import hashlib
from collections import OrderedDict

from app.market_data.feed_segment import Block
from app.market_data.live.bus.batch import BatchError, Kind
from app.market_data.live.bus.batch_log import BatchLog, Record
from app.market_data.live.bus.intake import BatchIntake
from app.market_data.live.bus.segment import BatchSegment, Checked
from app.market_data.live.live_feed import MEAN_FRAME_BYTES, LiveFeed
from app.market_data.sources.errors import DataError


class BusFeed(LiveFeed):
    """Ticks ``0`` to ``available - 1`` of a run; ``total`` is their number once it has ended."""

    as_parquet = False

    def __init__(self, log: BatchLog, *, follows: bool = False) -> None:
        """Read what is recorded; ``follows``: another process writes the recording.

        Raises:
            DataError: the recording is damaged.
        """
        self.batches, self.intake = log, BatchIntake()
        self.path = log.path
        self.live: BatchSegment = BatchSegment(log)  # type: ignore[assignment]
        self._follows = follows
        self.symbols = log.symbols
        self.rows_skipped = 0
        self._segments = [(0, self.live)]
        self.total = self.live.ticks
        self.frame_bytes_mean = float(MEAN_FRAME_BYTES)
        self._cache: OrderedDict[int, Block] = OrderedDict()
        choices = (log.begin.feed_id, log.begin.shard, log.symbols)
        self.feed_id = hashlib.blake2b(repr(choices).encode(), digest_size=8).hexdigest()
        self._read_on()

    def _read_on(self) -> None:
        for record in self.batches.records():
            try:
                self.apply(record, self.check(record))
            except BatchError as error:
                raise DataError(f"{self.path}: damaged recording: {error}") from None

    @property
    def available(self) -> int:
        """How many ticks there are by now."""
        if self._follows:
            self._read_on()
        return self.live.count

    def check(self, record: Record) -> Checked | None:
        """What is in the next record, which is not applied yet; None: no ticks.

        Raises:
            BatchError: its frames are malformed.
        """
        if record.message.kind is not Kind.TICKS:
            return None
        return self.live.check(record.message, self.intake.last_ns)

    def apply(self, record: Record, checked: Checked | None) -> None:
        """The next record, which is written."""
        last_ns = self.intake.last_ns
        if checked is not None:
            self.live.grow_by(record.message, checked)
            last_ns = int(checked.ticks["event_ns"][-1])
        self.intake.applied(record.place, record.message, last_ns)
        if self.intake.ended:
            self.total = self.live.count

    def take(self, ticks: object) -> bool:
        """The session has made the feed grow itself; returns whether it has."""
        return ticks is not None

    def event_ns(self, seq: int) -> int:
        """The event time of tick ``seq``."""
        block = self.block_at(seq)
        return int(block.event_ns[seq - block.first])

    def frame(self, seq: int) -> bytes:
        """The frame of tick ``seq``."""
        return self.block_at(seq).frame(seq)

    def block_at(self, seq: int) -> Block:
        """As of a live feed; a run without any tick has one empty block."""
        return super().block_at(max(seq, 0))

    def snapshot(self, seq: int) -> bytes:
        """The last tick of each symbol before tick ``seq``, in stream order."""
        last = self.live.last_ticks(seq)
        return b"".join(self.frame(tick) for tick in sorted(last[last >= 0].tolist()))
