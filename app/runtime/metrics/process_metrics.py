"""Counters, state and latency histograms that a process keeps in shared memory.

Each process owns one block and writes it with plain stores; any process may read it at any time.
The figures of a dead process stay.  Names and byte layout: :mod:`app.runtime.metrics.layout`.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable
from typing import Self

import numpy as np
import numpy.typing as npt

from app.runtime.log import get_logger
from app.runtime.metrics.histogram import Histogram
from app.runtime.metrics.layout import (
    BLOCK_BYTES,
    BLOCK_COUNT,
    BLOCK_HEAD,
    CLAIM_LOCK_BYTE,
    CLAIMS,
    COUNTER_SLOTS,
    COUNTERS_OFFSET,
    HEARTBEAT,
    HISTOGRAMS_OFFSET,
    INSTANCE,
    INSTANCE_SLICE,
    KEPT,
    PID,
    PROOF_SLICE,
    RESTARTS,
    RUN,
    RUN_SLICE,
    SEGMENT_BYTES,
    SERVICE,
    SERVICE_SLICE,
    STARTED,
    STATE,
    STATES,
    WORD,
    MetricsError,
    block_offset,
    check_header,
    counter_names,
    header_image,
    histogram_names,
    histogram_words,
    text_of,
)
from app.shared_memory_utils.segment import Segment, create_or_attach

log = get_logger()

CLAIM_TIMEOUT_S = 5.0
CHECK_EVERY_NS = 200_000_000
"""How often a process checks that the segment's name still leads to its segment."""


class ProcessMetrics:
    """This process's block: the only writer of its counters.  Get one with :meth:`open`.

    Threads of one process must not write the same counter: ``add`` reads, adds and stores.
    """

    def __init__(self, segment: Segment, block: int, service: str, instance: str) -> None:
        self.service = service
        self.instance = instance
        self._segment, self._block = segment, block
        self._next_check_ns = 0
        self._run = self.run
        self.on_new_run: Callable[[], None] | None = None
        """Called by :meth:`heartbeat`, once, when the stack has begun another run."""
        start = block_offset(block)
        self._index = {name: index for index, name in enumerate(counter_names(service))}
        counters = start + COUNTERS_OFFSET
        self._head = segment.buf[start : start + 8 * WORD].cast("Q")
        # A memoryview: 80 ns a store, against 160 ns through a NumPy array.
        self._words = segment.buf[counters : counters + COUNTER_SLOTS * WORD].cast("Q")
        self._histograms = {
            name: Histogram(histogram_words(segment.buf, start, slot))
            for slot, name in enumerate(histogram_names(service))
        }
        self._closed = False
        self.also_check: list[Callable[[], None]] = []
        """Called with each check of the segment's name, a few times a second."""

    @classmethod
    def open(cls, segment_name: str, service: str, instance: str = "") -> Self:
        """Create or attach the segment and claim a block in it.

        A block of the same service and instance whose owner has died is taken over: its counters
        continue, and ``restarts`` is incremented.  Otherwise a free block is taken; if there is
        none, the block whose owner has been dead the longest.

        Raises:
            KeyError: no such service.
            MetricsError: the segment belongs to another build, or every block has a living owner.
            SegmentError: the segment cannot be created or attached.
        """
        counter_names(service)
        if len(instance.encode()) > 96:
            raise ValueError(f"instance name of over 96 bytes: {instance[:40]}...")
        segment, _ = create_or_attach(segment_name, header_image(), SEGMENT_BYTES)
        try:
            check_header(segment_name, segment.buf)
            block = _claim(segment, service, instance)
        except BaseException:
            segment.close()
            raise
        return cls(segment, block, service, instance)

    @property
    def counters(self) -> npt.NDArray[np.uint64]:
        """All counter slots: uint64 ``[64]``, writable, not a copy; index: :meth:`counter`."""
        return np.frombuffer(self._words, dtype=np.uint64)

    @property
    def stack_proof(self) -> str:
        """What a client tells the gateway to show that it is a process of this stack.

        Empty once the stack has begun another run: a process of the old one has no place in it.
        """
        proof = bytes(self._segment.buf[PROOF_SLICE]).hex()
        return proof if self.is_of_this_run else ""

    @property
    def run(self) -> int:
        """The stack's run; 0 is the first."""
        return int.from_bytes(self._segment.buf[RUN_SLICE], sys.byteorder)

    @property
    def is_of_this_run(self) -> bool:
        """Whether the stack is still in the run in which this process started."""
        return self.run == self._run

    def go_along(self) -> None:
        """Belong to the stack's run of now: one that only looks on need not start again for it."""
        self._run = self._head[RUN] = self.run

    def is_behind(self, service: str) -> bool:
        """Whether a process of another service has still to start again for this run."""
        for block in range(BLOCK_COUNT):
            start = block_offset(block)
            head = BLOCK_HEAD.unpack_from(self._segment.buf, start)
            if head[CLAIMS] and text_of(head[SERVICE]) == service:
                run = self._segment.buf[start + RUN * WORD : start + (RUN + 1) * WORD]
                return int.from_bytes(run, sys.byteorder) != self._run
        return False

    def is_starting(self, service: str) -> bool:
        """Whether a process of another service is alive and not ready yet."""
        for block in range(BLOCK_COUNT):
            start = block_offset(block)
            head = BLOCK_HEAD.unpack_from(self._segment.buf, start)
            if head[CLAIMS] and text_of(head[SERVICE]) == service:
                return STATES[head[STATE]] == "starting" and self._segment.is_locked(start)
        return False

    def begin_run(self, run: int) -> None:
        """The stack begins another run; for the gateway, which goes on.

        The others notice with their next heartbeat.  The proof changes after the run: nobody can
        have the new proof and not see that his run is over.
        """
        self._segment.buf[RUN_SLICE] = run.to_bytes(WORD, sys.byteorder)
        self._segment.buf[PROOF_SLICE] = os.urandom(PROOF_SLICE.stop - PROOF_SLICE.start)
        self._run = run
        start = block_offset(self._block)
        claims = self._segment.buf[start : start + WORD].cast("Q")
        claims[0] |= 1
        _forget_run(self._segment, start, self.service, run)
        claims[0] += 1
        claims.release()

    @property
    def restarts(self) -> int:
        """How often this block was taken over from a dead owner."""
        return self._head[RESTARTS]

    def counter(self, name: str) -> int:
        """The index of a counter in :attr:`counters`.

        Raises:
            KeyError: this service has no such counter.
        """
        try:
            return self._index[name]
        except KeyError:
            raise KeyError(f"{self.service} has no counter {name!r}") from None

    def add(self, name: str, amount: int = 1) -> None:
        """Add to a counter."""
        self._words[self._index[name]] += amount

    def set(self, name: str, value: int) -> None:
        """Set a counter or gauge; ``value`` must not be negative."""
        self._words[self._index[name]] = value

    def get(self, name: str) -> int:
        """The counter's value."""
        return self._words[self.counter(name)]

    def mark_event(self, now_ns: int) -> None:
        """Note work done at ``now_ns`` (CLOCK_MONOTONIC); throughput is computed from it."""
        first = self._index["first_event_ns"]
        if not self._words[first]:
            self._words[first] = now_ns
        self._words[first + 1] = now_ns

    def histogram(self, name: str) -> Histogram:
        """The histogram of that name.

        Raises:
            KeyError: this service has no such histogram.
        """
        try:
            return self._histograms[name]
        except KeyError:
            raise KeyError(f"{self.service} has no histogram {name!r}") from None

    def heartbeat(self) -> None:
        """Publish a heartbeat; call at least every half second.

        Raises:
            MetricsError: the segment was removed, and its name now belongs to another program.
            SegmentError: it was removed and cannot be created again.
        """
        now_ns = time.monotonic_ns()
        if now_ns >= self._next_check_ns:
            self._next_check_ns = now_ns + CHECK_EVERY_NS
            if not self._segment.is_current():
                self._restore()
            for check in self.also_check:
                check()
        self._head[HEARTBEAT] = now_ns
        if self.on_new_run is not None and not self.is_of_this_run:
            told, self.on_new_run = self.on_new_run, None
            told()

    def _restore(self) -> None:
        """The segment was removed or replaced: continue in a segment of that name.

        The first process creates it with the figures of all; each brings its own block up to date.
        """
        name, start = self._segment.name, block_offset(self._block)
        found, created = create_or_attach(name, bytes(self._segment.buf), SEGMENT_BYTES)
        try:
            check_header(name, found.buf)
            if not found.try_lock(start):
                raise MetricsError(
                    f"metrics segment {name} was replaced, and the new one has another "
                    f"{self.service} in block {self._block}; restarting"
                )
            end = block_offset(self._block + 1)
            found.buf[start:end] = self._segment.buf[start:end]
        except MetricsError:
            found.close()
            raise
        self._segment.move_to(found)
        log.warning("metrics_restored", segment=name, created=created)

    def set_state(self, state: str) -> None:
        """Publish a state of :data:`STATES` except "free", with a heartbeat.

        Raises:
            ValueError: no such state.
        """
        if state not in STATES[1:]:
            raise ValueError(f"no state {state!r}; known: {', '.join(STATES[1:])}")
        self._head[STATE] = STATES.index(state)
        self._head[HEARTBEAT] = time.monotonic_ns()

    def close(self) -> None:
        """Release the block; its figures stay readable."""
        if self._closed:
            return
        self._closed = True
        histograms = [histogram.release for histogram in self._histograms.values()]
        for release in (self._head.release, self._words.release, *histograms):
            # BufferError: a NumPy array of this memory is in use and keeps the mapping alive.
            with contextlib.suppress(BufferError):
                release()
        self._segment.close()


def _forget_run(segment: Segment, start: int, service: str, run: int) -> None:
    """The figures of a block begin anew, for another run, but for those that go on."""
    words = segment.buf[start : start + BLOCK_BYTES].cast("Q")
    names, first = counter_names(service), COUNTERS_OFFSET // WORD
    places = [first + names.index(name) for name in KEPT.get(service, ())]
    kept = [(place, words[place]) for place in places]
    figures = segment.buf[start + COUNTERS_OFFSET : start + BLOCK_BYTES]
    figures[:] = bytes(len(figures))
    for place, value in kept:
        words[place] = value
    words[RESTARTS], words[RUN] = 0, run
    words.release()
    figures.release()


def _claim(segment: Segment, service: str, instance: str) -> int:
    """Lock a block and prepare it; only one process claims at a time."""
    deadline = time.monotonic() + CLAIM_TIMEOUT_S
    while not segment.try_lock(CLAIM_LOCK_BYTE):
        if time.monotonic() > deadline:
            raise MetricsError(
                f"metrics segment {segment.name}: another process has been claiming a block for "
                f"{CLAIM_TIMEOUT_S:g} s; is it stopped?"
            )
        time.sleep(0.001)
    try:
        heads = [
            BLOCK_HEAD.unpack_from(segment.buf, block_offset(block)) for block in range(BLOCK_COUNT)
        ]
        name = (service, instance)
        own, free, dead = [], [], []
        for block, head in enumerate(heads):
            if head[CLAIMS] == 0 or head[CLAIMS] % 2:
                free.append(block)
            elif (text_of(head[SERVICE]), text_of(head[INSTANCE])) == name:
                own.append(block)
            else:
                dead.append(block)
        dead.sort(key=lambda block: heads[block][HEARTBEAT])
        for block in [*own, *free, *dead]:
            if segment.try_lock(block_offset(block)):
                _prepare(segment, block, service, instance, resume=block in own)
                return block
    finally:
        segment.unlock(CLAIM_LOCK_BYTE)
    raise MetricsError(
        f"metrics segment {segment.name}: all {BLOCK_COUNT} blocks have a living owner"
    )


def _prepare(segment: Segment, block: int, service: str, instance: str, *, resume: bool) -> None:
    """Write the head of a block whose lock we hold; ``claims`` is odd meanwhile.

    Python has no store barriers, so on a weakly ordered machine a reader may briefly see a new name
    with old counters.  Only displays depend on it.
    """
    start = block_offset(block)
    bytes_of_block = segment.buf[start : start + HISTOGRAMS_OFFSET]
    head = segment.buf[start : start + 8 * WORD].cast("Q")
    head[CLAIMS] |= 1
    run = int.from_bytes(segment.buf[RUN_SLICE], sys.byteorder)
    if resume and head[RUN] != run:
        _forget_run(segment, start, service, run)
    elif not resume:
        end = block_offset(block + 1)
        segment.buf[start + WORD : end] = bytes(end - start - WORD)
        bytes_of_block[SERVICE_SLICE] = service.encode().ljust(32, b"\0")
        bytes_of_block[INSTANCE_SLICE] = instance.encode().ljust(96, b"\0")
        head[RUN] = run
    else:
        head[RESTARTS] += 1
    head[PID] = os.getpid()
    head[STARTED] = time.time_ns()
    head[HEARTBEAT] = time.monotonic_ns()
    head[STATE] = STATES.index("starting")
    head[CLAIMS] += 1
    head.release()
    bytes_of_block.release()
