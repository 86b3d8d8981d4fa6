"""The broadcast ring beside the book: every tick, for every strategy.

Two policies.  *lossless*: the writer waits for the slowest registered reader, and TCP then pushes
back to the gateway.  *latest*: a lapped reader skips ahead and counts what it lost.

A reader's slot is its identity: the name it trades under and the position it has reached.  The
slot's lock dies with the process, its content does not, so whoever comes back under that name goes
on there.
"""

import secrets
import struct
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.kernel import _kernel
from app.model.tick import TICK_DTYPE
from app.shared_memory_utils.segment import Segment, SegmentError, SegmentForeign, create_or_attach

assert TICK_DTYPE.itemsize == _kernel.RECORD_BYTES

MIN_CAPACITY_TICKS = 2
FREE, LOSSLESS, LATEST = 0, 1, 2
POLICIES = {"lossless": LOSSLESS, "latest": LATEST}

_WRITER_LOCK_BYTE = 0
_REGISTER_LOCK_BYTE = 1
_READER_LOCK_BYTE = 2
_HEAD = struct.Struct("<QIIQQI")
_POSITIONS = struct.Struct("<QQQQ")


@dataclass(frozen=True)
class Registration:
    """A reader's slot: ``returning`` means that this name was here before and goes on."""

    slot: int
    name: str
    returning: bool


class RingState(NamedTuple):
    """How far the writer has come."""

    published: int
    """Ticks in the ring since its start; the next tick's position."""
    next_seq: int
    """The source's sequence number that is due next."""
    end_seq: int | None
    """How many ticks the run has, None before its end is known."""
    heartbeat_ns: int
    """CLOCK_MONOTONIC when the prices were last known to be current."""


class TickRing:
    """One mapped ring segment."""

    def __init__(self, segment: Segment, warm: bool) -> None:
        _check(segment)
        self._segment = segment
        self.warm = warm
        self.view = _kernel.RingView(segment.buf)
        capacity = _HEAD.unpack_from(segment.buf)[3]
        self.records: npt.NDArray[np.void] = np.frombuffer(
            segment.buf, dtype=TICK_DTYPE, count=capacity, offset=_kernel.RING_HEADER_BYTES
        )
        self.records.flags.writeable = False
        self._orphan_since_s: dict[int, float] = {}
        self._held: set[int] = set()

    @classmethod
    def open_writer(cls, name: str, capacity: int, policy: str, fresh: bool = False) -> "TickRing":
        """Create the ring, or take over a dead writer's, unless ``fresh`` or of another shape.

        Raises:
            ValueError: ``capacity`` is no power of two.
            SegmentError: another writer is alive, or the name is another program's segment.
        """
        if capacity < MIN_CAPACITY_TICKS or capacity & (capacity - 1):
            raise ValueError(f"ring of {capacity} ticks: a power of two from {MIN_CAPACITY_TICKS}")
        image = bytearray(_kernel.RING_HEADER_BYTES)
        _HEAD.pack_into(
            image,
            0,
            _kernel.RING_MAGIC,
            _kernel.LAYOUT_VERSION,
            TICK_DTYPE.itemsize,
            capacity,
            secrets.randbits(64),
            POLICIES[policy],
        )
        _POSITIONS.pack_into(image, 64, 0, 0, 0, _kernel.NO_END)
        size = _kernel.RING_HEADER_BYTES + capacity * TICK_DTYPE.itemsize
        while True:
            segment, created = create_or_attach(name, image, size)
            if not segment.try_lock(_WRITER_LOCK_BYTE):
                segment.close()
                raise SegmentError(f"tick ring {name}: another writer is alive; stop it first")
            try:
                if created or (not fresh and segment.is_current() and _is_like(segment, image)):
                    return cls(segment, warm=not created)
            except SegmentForeign:
                segment.close()
                raise
            except SegmentError:
                pass  # another version's leftover without a writer: replace it
            segment.unlink()
            segment.close()

    @classmethod
    def attach(cls, name: str) -> "TickRing":
        """Attach as a reader.

        Raises:
            SegmentMissing: there is none yet.
            SegmentError: it is no ring, or of another version.
        """
        segment = Segment.attach(name)
        try:
            return cls(segment, warm=True)
        except SegmentError:
            segment.close()
            raise

    @property
    def buffer(self) -> memoryview:
        """The mapped segment, for the kernel."""
        return self._segment.buf

    @property
    def nbytes(self) -> int:
        """Size in shared memory."""
        return self._segment.size

    @property
    def state(self) -> RingState:
        """How far the writer has come."""
        return RingState(*self.view.state)

    @property
    def capacity(self) -> int:
        """Ticks that fit."""
        return len(self.records)

    def register(self, client: str, policy: int) -> Registration:
        """Take a reader slot under ``client``, or ``client-2``, ``client-3``... if that one lives.

        A name whose holder died is taken over with its position.  A new name, or one that comes
        back with another policy, starts at tick 0 while the ring holds it, else at the present.

        Raises:
            SegmentError: every slot is taken.
        """
        while not self._segment.try_lock(_REGISTER_LOCK_BYTE):
            time.sleep(0.001)
        try:
            slots = [self.view.reader(slot) for slot in range(_kernel.MAX_READERS)]
            taken = {name: slot for slot, (state, _, _, name) in enumerate(slots) if state != FREE}
            for number in range(1, _kernel.MAX_READERS + 1):
                name = client if number == 1 else f"{client}-{number}"
                if name in taken:
                    slot = taken[name]
                    if self._lock_slot(slot):
                        if slots[slot][0] == policy:
                            self.view.set_reader(slot, policy)
                        else:  # what a latest reader had still to take was not kept for it
                            self._enter(slot, name, policy)
                        return Registration(slot, name, returning=True)
                    continue
                for slot, (state, *_) in enumerate(slots):
                    if state == FREE and self._lock_slot(slot):
                        self._enter(slot, name, policy)
                        return Registration(slot, name, returning=False)
                break
            raise SegmentError(f"tick ring {self._segment.name}: all reader slots are taken")
        finally:
            self._segment.unlock(_REGISTER_LOCK_BYTE)

    def _lock_slot(self, slot: int) -> bool:
        # A second lock on a byte that this descriptor holds already would succeed.
        if slot in self._held or not self._segment.try_lock(_READER_LOCK_BYTE + slot):
            return False
        self._held.add(slot)
        return True

    def _enter(self, slot: int, name: str, policy: int) -> None:
        """Stand at tick 0 first, so that a lossless writer stops for us; look afterwards."""
        self.view.set_reader(slot, policy, cursor=0, name=name)
        published = self.state.published
        if published > self.capacity // 2:
            self.view.set_reader(slot, policy, cursor=published)

    def leave(self, slot: int) -> None:
        """Free a slot for good: the writer no longer waits for it."""
        self.view.set_reader(slot, FREE)
        self._held.discard(slot)
        self._segment.unlock(_READER_LOCK_BYTE + slot)

    def absent(self) -> list[str]:
        """The names of dead readers whose place is kept."""
        readers = ((slot, self.view.reader(slot)) for slot in range(_kernel.MAX_READERS))
        return [
            name
            for slot, (state, _, _, name) in readers
            if state != FREE and not self._segment.is_locked(_READER_LOCK_BYTE + slot)
        ]

    def evict_dead(self, grace_s: float) -> list[str]:
        """Free the slots of readers that died more than ``grace_s`` ago; their names.

        A living reader, however slow or stopped, keeps its slot: its lock says that it lives.
        """
        # No one may come back to a slot between our look at its lock and its end.
        if not self._segment.try_lock(_REGISTER_LOCK_BYTE):
            return []
        try:
            return self._evict(time.monotonic(), grace_s)
        finally:
            self._segment.unlock(_REGISTER_LOCK_BYTE)

    def _evict(self, now_s: float, grace_s: float) -> list[str]:
        gone = []
        for slot in range(_kernel.MAX_READERS):
            state, _, _, name = self.view.reader(slot)
            if state == FREE or self._segment.is_locked(_READER_LOCK_BYTE + slot):
                self._orphan_since_s.pop(slot, None)
            elif now_s - self._orphan_since_s.setdefault(slot, now_s) >= grace_s:
                self.view.set_reader(slot, FREE)
                gone.append(name)
        return gone

    def heartbeat_age_s(self) -> float:
        """Seconds since the writer's last sign of life."""
        return float(time.monotonic_ns() - self.state.heartbeat_ns) / 1e9

    def writer_alive(self) -> bool:
        """Whether a process holds the writer's lock."""
        return self._segment.is_locked(_WRITER_LOCK_BYTE)

    def is_current(self) -> bool:
        """Whether the name still stands for this segment."""
        return self._segment.is_current()

    def close(self) -> None:
        """Unmap; every lock of this process on the ring is freed, the segment stays."""
        self.records = self.records[:0]
        self._segment.close()

    def unlink(self) -> None:
        """Remove the segment's name."""
        self._segment.unlink()


def _is_like(segment: Segment, image: bytearray) -> bool:
    """Whether the ring has the version, capacity and policy of ``image``."""
    _check(segment)
    magic, version, record, capacity, _, policy = _HEAD.unpack_from(segment.buf)
    wanted = _HEAD.unpack_from(image)
    return (magic, version, record, capacity, policy) == (*wanted[:4], wanted[5])


def _check(segment: Segment) -> None:
    if segment.size < _kernel.RING_HEADER_BYTES:
        raise SegmentForeign(f"{segment.name}: {segment.size} bytes are no tick ring; remove it")
    magic, version, record_bytes, capacity, _, _ = _HEAD.unpack_from(segment.buf)
    if magic != _kernel.RING_MAGIC:
        raise SegmentForeign(f"{segment.name}: no tick ring (magic {magic:#x}); choose another")
    if (version, record_bytes) != (_kernel.LAYOUT_VERSION, TICK_DTYPE.itemsize):
        raise SegmentError(
            f"{segment.name}: layout version {version}, this program reads "
            f"{_kernel.LAYOUT_VERSION}; restart every process on one version"
        )
    if segment.size < _kernel.RING_HEADER_BYTES + capacity * record_bytes:
        raise SegmentError(f"{segment.name}: truncated tick ring; remove it and restart")
