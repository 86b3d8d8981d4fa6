"""The tick ring: one writer broadcasts every tick to all strategies.

Two policies.  *lossless*: the writer waits for the slowest registered reader, and TCP backpressure
then holds the gateway.  *latest*: a lapped reader skips ahead and counts the ticks it lost.

A reader slot stores the reader's name (its client name for orders) and its position.  The slot's
lock is freed when the process dies but the content stays, so a process that registers again under
the same name resumes at that position.
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
from app.shared_memory_utils.layout_check import (
    Layout,
    check_constants,
    has_magic,
    item_count,
    store_checksum,
)
from app.shared_memory_utils.segment import (
    WRITER_LOCK_BYTE,
    Segment,
    SegmentError,
    SegmentHandle,
    open_for_writing,
)

assert TICK_DTYPE.itemsize == _kernel.RECORD_BYTES

MIN_CAPACITY_TICKS = 2
FREE, LOSSLESS, LATEST = 0, 1, 2
POLICIES = {"lossless": LOSSLESS, "latest": LATEST}

_REGISTER_LOCK_BYTE = 1
_READER_LOCK_BYTE = 2
_HEAD = struct.Struct("<QIIQQI")
_POSITIONS = struct.Struct("<QQQQ")

_LAYOUT = Layout(
    kind="tick ring",
    magic=_kernel.RING_MAGIC,
    header_bytes=_kernel.RING_HEADER_BYTES,
    item_bytes=TICK_DTYPE.itemsize,
    count_struct=struct.Struct("<Q"),
    checksum_offset=36,
    constants=lambda ring, _: bytes(ring[:36]),
)


@dataclass(frozen=True)
class Registration:
    """A reader's slot; ``returning``: this name was registered before and its slot was kept."""

    slot: int
    name: str
    returning: bool


class RingState(NamedTuple):
    """The writer's progress."""

    published: int
    """Ticks written since the ring was created; also the position of the next tick."""
    next_seq: int
    """The source's sequence number of the next tick."""
    end_seq: int | None
    """Number of ticks in the run; None until its end is known."""
    heartbeat_ns: int
    """CLOCK_MONOTONIC when the prices were last known to be current."""


class TickRing(SegmentHandle):
    """One mapped ring segment."""

    def __init__(self, segment: Segment, warm: bool) -> None:
        capacity = item_count(segment, _LAYOUT)
        self._segment = segment
        self.warm = warm
        self.view = _kernel.RingView(segment.buf)
        self.records: npt.NDArray[np.void] = np.frombuffer(
            segment.buf, dtype=TICK_DTYPE, count=capacity, offset=_kernel.RING_HEADER_BYTES
        )
        self.records.flags.writeable = False
        self._dead_since_s: dict[int, float] = {}
        self._held: set[int] = set()

    @classmethod
    def open_writer(cls, name: str, capacity: int, policy: str, fresh: bool = False) -> "TickRing":
        """Create the ring, or take over a dead writer's.

        A dead writer's ring is replaced if ``fresh``, or if its capacity, policy or version differ.

        Raises:
            ValueError: ``capacity`` is not a power of two.
            SegmentError: another writer is alive, or another program's segment has this name.
        """
        if capacity < MIN_CAPACITY_TICKS or capacity & (capacity - 1):
            raise ValueError(
                f"ring of {capacity} ticks: must be a power of two, at least {MIN_CAPACITY_TICKS}"
            )
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
        store_checksum(image, _LAYOUT, capacity)
        _POSITIONS.pack_into(image, 64, 0, 0, 0, _kernel.NO_END)
        size = _kernel.RING_HEADER_BYTES + capacity * TICK_DTYPE.itemsize
        segment, warm = open_for_writing(
            name, "tick ring", image, size, lambda old: not fresh and _is_like(old, image)
        )
        return cls(segment, warm)

    @classmethod
    def attach(cls, name: str) -> "TickRing":
        """Attach as a reader, which cannot write to the records: the kernel refuses it.

        The header stays writable, for the reader's slot and the words on which processes wait.

        Raises:
            SegmentMissing: the ring does not exist yet.
            SegmentError: the segment is not a ring, or has another layout version.
        """
        segment = Segment.attach(name)
        try:
            ring = cls(segment, warm=True)
            _kernel.make_read_only(segment.buf, _kernel.RING_HEADER_BYTES)
            return ring
        except SegmentError:
            segment.close()
            raise

    @property
    def state(self) -> RingState:
        """The writer's progress."""
        return RingState(*self.view.state)

    @property
    def capacity(self) -> int:
        """Number of ticks that the ring holds."""
        return len(self.records)

    def check_header(self) -> None:
        """Check what never changes in the header; raises SegmentDamaged."""
        check_constants(self._segment, _LAYOUT, self.capacity)

    def register(self, client: str, policy: int, number: int | None = None) -> Registration:
        """Take a reader slot named ``client``, or ``client-2``, ``client-3``... if that is in use.

        ``number``: which of these names to try first; 1 stands for ``client``.
        The slot of a dead reader of that name is taken over with its position.  A new name, or a
        known one with another policy, starts at tick 0 while at most half of the ring is filled,
        later at the next tick to be written.

        Raises:
            SegmentError: every slot is taken.
        """
        while not self._segment.try_lock(_REGISTER_LOCK_BYTE):
            time.sleep(0.001)
        try:
            slots = [self.view.reader(slot) for slot in range(_kernel.MAX_READERS)]
            taken = {name: slot for slot, (state, _, _, name) in enumerate(slots) if state != FREE}
            wanted = [] if number is None else [number]
            for each in [*wanted, *range(1, _kernel.MAX_READERS + 1)]:
                name = client if each == 1 else f"{client}-{each}"
                if name in taken:
                    slot = taken[name]
                    if self._lock_slot(slot):
                        if slots[slot][0] == policy:
                            self.view.set_reader(slot, policy)
                        else:  # a latest reader's unread ticks may have been overwritten
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
        # Locking a byte twice through one descriptor succeeds, so try_lock alone is not enough.
        if slot in self._held or not self._segment.try_lock(_READER_LOCK_BYTE + slot):
            return False
        self._held.add(slot)
        return True

    def _enter(self, slot: int, name: str, policy: int) -> None:
        """Start at tick 0 first, so that a lossless writer waits; then check its progress."""
        self.view.set_reader(slot, policy, cursor=0, name=name)
        published = self.state.published
        if published > self.capacity // 2:
            self.view.set_reader(slot, policy, cursor=published)

    def leave(self, slot: int) -> None:
        """Free a slot; the writer no longer waits for it."""
        self.view.set_reader(slot, FREE)
        self._held.discard(slot)
        self._segment.unlock(_READER_LOCK_BYTE + slot)

    def absent(self) -> list[str]:
        """Names of dead readers whose slots are kept."""
        readers = ((slot, self.view.reader(slot)) for slot in range(_kernel.MAX_READERS))
        return [
            name
            for slot, (state, _, _, name) in readers
            if state != FREE and not self._segment.is_locked(_READER_LOCK_BYTE + slot)
        ]

    def evict_dead(self, grace_s: float) -> list[str]:
        """Free the slots of readers that died more than ``grace_s`` ago; return their names.

        A living reader holds its slot's lock and keeps the slot, even if it is slow or stopped.
        """
        # No reader may take a slot over between our check of its lock and its removal.
        if not self._segment.try_lock(_REGISTER_LOCK_BYTE):
            return []
        try:
            return self._evict(time.monotonic(), grace_s)
        finally:
            self._segment.unlock(_REGISTER_LOCK_BYTE)

    def _evict(self, now_s: float, grace_s: float) -> list[str]:
        evicted = []
        for slot in range(_kernel.MAX_READERS):
            state, _, _, name = self.view.reader(slot)
            if state == FREE or self._segment.is_locked(_READER_LOCK_BYTE + slot):
                self._dead_since_s.pop(slot, None)
            elif now_s - self._dead_since_s.setdefault(slot, now_s) >= grace_s:
                self.view.set_reader(slot, FREE)
                evicted.append(name)
        return evicted

    def heartbeat_age_s(self) -> float:
        """Seconds since the writer's last heartbeat."""
        return float(time.monotonic_ns() - self.state.heartbeat_ns) / 1e9

    def writer_alive(self) -> bool:
        """Whether a process holds the writer's lock."""
        return self._segment.is_locked(WRITER_LOCK_BYTE)

    def close(self) -> None:
        """Unmap and free every lock of this process on the ring; the segment stays."""
        self.records = self.records[:0]
        super().close()


def _is_like(segment: Segment, image: bytearray) -> bool:
    """Whether the ring has the version, capacity and policy of ``image``."""
    item_count(segment, _LAYOUT)
    magic, version, record, capacity, _, policy = _HEAD.unpack_from(segment.buf)
    wanted = _HEAD.unpack_from(image)
    return (magic, version, record, capacity, policy) == (*wanted[:4], wanted[5])


def is_tick_ring(segment: Segment) -> bool:
    """Whether it is a tick ring, of any version."""
    return has_magic(segment, _LAYOUT)
