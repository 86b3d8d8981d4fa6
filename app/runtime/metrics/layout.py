"""The byte layout of the metrics segment, the names in it, and a small reader of heartbeats.

Standard library only: health checks import this in a few milliseconds, without NumPy.

::

    segment                                block (one per process, all of one size)
    0     8  magic "TRDSTATS"              0     8  claims: odd while a claim is under way
    8     4  layout version                8     8  state: index into STATES, 0 is "free"
    12    4  crc32 of the names below      16    8  heartbeat, ns of CLOCK_MONOTONIC
    16    4  number of blocks              24    8  process id, in its own namespace
    20    4  bytes per block               32    8  start of the process, ns since the epoch
    24   16  stack proof, random           40    8  restarts: takeovers after the owner's death
    40    8  the run, 0 for the first      48    8  the run that the figures belong to
    48   16  zero                                   (words of the head after BLOCK_HEAD's)
    64       block 0, block 1, ...         56    8  zero
                                           64   32  service name, UTF-8, zero padded
                                           96   96  instance name, UTF-8, zero padded
                                           192 512  64 counters
                                           704      4 histograms of 4352 buckets each

All numbers have the machine's byte order (the segment never leaves the machine).  Counters and
buckets are aligned unsigned 64-bit words, so a single store or load is never torn.  A block's only
writer is the process that holds the open-file-description lock on the block's first byte; the lock
on byte 0 of the segment serializes claims.  Readers take no lock.
"""

import mmap
import os
import stat
import struct
import zlib
from typing import Final, NamedTuple

SHM_DIRECTORY: Final = "/dev/shm"
MAGIC: Final = b"TRDSTATS"
LAYOUT_VERSION: Final = 3

COUNTERS: Final[dict[str, dict[str, str]]] = {
    "gateway": {
        "ticks_sent": "ticks of the run put on the stream, once for all clients",
        "sentiment_sent": "sentiment frames put on the stream, once for all clients",
        "bytes_sent": "bytes written to all clients of both ports",
        "clients": "clients connected now",
        "clients_dropped": "clients dropped for lagging or for a malformed hello",
        "rows_skipped": "bad rows of the data file that were skipped",
        "resumes": "RESUME frames answered",
        "schedule_seq": "tick from which the pace is counted",
        "schedule_ns": "when that tick was due, CLOCK_MONOTONIC; 0: no tick is due at a time",
        "run_number": "1 for the first run of the stack, and one more for each jump back",
        "market_changes": "twice the changes of the words around this one; odd during a change",
        "pace_kind": "1: max, 2: ticks per second, 3: multiple of event time, 4: as they arrive",
        "pace_millionths": "that number of ticks per second, or that multiple, in millionths",
        "pace_setting": "checksum of PACE, the pace at the start",
        "paused": "1 while the market stands still, or will at the end of a jump",
        "hurries_to": "the tick to which the market jumps now; 0: it does not",
        "unpaced_until": "the tick at which the last jump or step, or the pace max, has ended",
        "event_ns": "event time of the last tick sent, ns since the epoch, two's complement",
        "ticks_total": "ticks of a run with REPLAY=once; 0 if the run does not end",
        "live_connects": "connections to the exchange of a live feed",
        "live_gaps": "gaps in the exchange's trade ids",
        "live_missing": "trades that these gaps stand for",
        "live_repeated": "trades dropped because their id was not new",
        "live_late": "trades whose time was before the last one's, which they got instead",
        "live_refused": "trades refused: no JSON, price, time, symbol, ...",
    },
    "orderbook": {
        "ticks_received": "ticks of the run published in shared memory",
        "batches": "receive calls that brought ticks",
        "bytes_received": "bytes received on the price connection",
        "ticks_malformed": "ticks refused because a field was malformed",
        "reconnects": "connections made after the first",
        "gaps": "ticks lost or doubled on the way from the gateway; the run then starts over",
        "writer_waits": "times the ring was full and the writer waited for a reader",
        "queue_depth": "ticks in the ring that the slowest reader has not taken yet",
        "symbols": "symbols in the price book",
    },
    "strategy": {
        "ticks_consumed": "ticks delivered to the strategy",
        "ticks_lost": "ticks overwritten in the ring before they were read",
        "batches": "reads of the ring that brought ticks",
        "queue_depth": "ticks in the ring that are not read yet",
        "signals_buy": "decisions to buy",
        "signals_sell": "decisions to sell",
        "signals_hold": "decisions to hold",
        "sentiment_received": "sentiment frames received",
        "joined_at": "ring position at which the strategy joined the run",
        "orders_sent": "orders sent; an order that is sent again counts once",
        "orders_acked": "orders acknowledged, repeated answers included",
        "orders_rejected": "orders answered with a reject",
        "orders_duplicate": "acknowledgments that repeated an earlier answer",
        "orders_timed_out": "orders without an answer in time, so sent again",
        "reconnects": "connections made after the first, to the feeds and the order manager",
        "position_changes": "changes of a position by an acknowledged order",
        "started_ns": "first start of this strategy, CLOCK_MONOTONIC; DEADLINE_S counts from it",
        "run_orders": "orders of the run that are answered; a restart does not count them again",
        "run_filled": "those of them that were filled, at least in part",
        "run_refused": "those of them that were refused",
        "trades_hash": "digest of these orders and answers; 0: this kind of run has none",
        "signals_flat": "decisions to close the position",
        "run_pnl": "PnL at the end of the run, a double (bits_of_money); see run_pnl_known",
        "run_pnl_known": "1 once run_pnl is set",
        "placed": "orders of the run that the strategy has placed itself; most wait before they go",
        "placed_canceled": "those of them, with a limit, that it canceled",
        "placed_open": "those that are open; at the end of the run, those that were until then",
        "in_transit": "orders that PAPER_LATENCY_MS holds; at the end of the run, those never sent",
        "transit_refused": "orders of signals that were not made: too many were in transit",
        "latency_cost": "what latency has cost in the run, a double (bits_of_money)",
    },
    "order_manager": {
        "orders_received": "order frames received, accepted or not",
        "orders_acked": "new orders accepted",
        "orders_rejected": "orders answered with a reject",
        "orders_duplicate": "repeated orders answered with the stored answer",
        "fills": "executions",
        "connections": "clients connected now",
        "connections_dropped": "clients dropped: bad frames, not reading, or idle",
        "frames_bad": "frames that were no valid request",
        "requests_refused": "requests refused of which nothing was recorded; each is logged",
        "commits": "commits of the order store",
        "queue_depth": "received frames that wait for a batch",
        "checkpoint_errors": "checkpoints of the order store that failed; each is tried again",
        "position_write_errors": "writes of the positions that failed; each is tried again",
        "store_bytes": "size of the order store's files",
        "store_free_bytes": "free space on the volume of the order store",
        "trading_mode": "of the whole stack; 0: active, 1: reduce, 2: halted, 3: killed",
    },
    "dashboard": {
        "snapshots": "snapshots made for the open pages, each once for all of them",
        "pages": "pages open now",
        "pages_dropped": "pages dropped because they did not read",
        "requests": "HTTP requests answered",
        "requests_refused": "HTTP requests refused: host, origin, header, token, size, rate, ...",
        "connections": "connections open now",
        "connections_refused": "connections closed at once, or because they said nothing",
        "commands": "commands passed on to the stack",
        "commands_failed": "commands that the stack refused or did not answer",
        "requests_limited": "HTTP requests refused because there were too many a second",
    },
}
"""Service -> counter -> meaning.  Add names here; offsets and the fingerprint follow from them.

Counters continue when a process restarts.  Those of ticks sent, received and consumed are positions
in the run (set to the next sequence number), so a tick that is repeated after a restart counts
once.
"""

KEPT: Final = {
    "gateway": (
        "market_changes",
        "pace_kind",
        "pace_millionths",
        "pace_setting",
        "paused",
        "hurries_to",
    ),
    "strategy": ("started_ns",),
}
"""Counters that go on in a new run of the stack; all others begin at 0, as do the histograms."""

COMMON_COUNTERS: Final = {
    "first_event_ns": "CLOCK_MONOTONIC at the first event, 0 before it",
    "last_event_ns": "CLOCK_MONOTONIC at the latest event",
}
"""Counters of every service, after its own."""

HISTOGRAMS: Final[dict[str, dict[str, str]]] = {
    "gateway": {},
    "orderbook": {
        "book_update_ns": "a batch received until it is published in shared memory",
    },
    "strategy": {
        "tick_to_decision_ns": "tick received by the orderbook until the decision on it",
        "tick_to_ack_ns": "tick received by the orderbook until its order's ACK",
        "scheduled_to_ack_ns": "tick due at the gateway (PACE in ticks per second) until the ACK",
        "order_ack_ns": "order sent until its ACK",
    },
    "order_manager": {
        "order_ack_ns": "order received until its ACK is sent, commit included",
        "commit_ns": "one commit of the order store",
    },
    "dashboard": {},
}
"""Service -> histogram -> meaning.  At most :data:`HISTOGRAM_SLOTS` each."""

STATES: Final = ("free", "starting", "ready", "draining", "done", "failed", "stale")

# 24 blocks: the four services, the benchmark's 8 strategies, and the blocks of dead processes.
BLOCK_COUNT: Final = 24
COUNTER_SLOTS: Final = 64
HISTOGRAM_SLOTS: Final = 4

# HdrHistogram(lowest=1 ns, highest=2^40 - 1 ns, 2 significant digits): 256 buckets of 1 ns, then 32
# doublings of 128 buckets.  Two digits (error below 0.8 %) take 34 KB per histogram; three would
# take 270 KB, and no latency here is stable to 1 %.  2^40 ns is 18 minutes, more than any latency.
HIGHEST_VALUE_NS: Final = (1 << 40) - 1
SUB_BUCKET_BITS: Final = 8
BUCKET_SLOTS: Final = (40 - SUB_BUCKET_BITS + 2) << (SUB_BUCKET_BITS - 1)

WORD: Final = 8
HEADER = struct.Struct("=8sIIII")
BLOCK_HEAD = struct.Struct("=QQQQQQ16x32s96s")
HEADER_BYTES: Final = 64
BLOCK_HEAD_BYTES: Final = 192
COUNTERS_OFFSET: Final = BLOCK_HEAD_BYTES
HISTOGRAMS_OFFSET: Final = COUNTERS_OFFSET + COUNTER_SLOTS * WORD
BLOCK_BYTES: Final = HISTOGRAMS_OFFSET + HISTOGRAM_SLOTS * BUCKET_SLOTS * WORD
SEGMENT_BYTES: Final = HEADER_BYTES + BLOCK_COUNT * BLOCK_BYTES

# Fields of BLOCK_HEAD, by index.
CLAIMS, STATE, HEARTBEAT, PID, STARTED, RESTARTS, SERVICE, INSTANCE = range(8)
SERVICE_SLICE: Final = slice(64, 96)
INSTANCE_SLICE: Final = slice(96, 192)
PROOF_SLICE: Final = slice(24, 40)
"""In the header: what only processes that share this memory know."""
RUN_SLICE: Final = slice(40, 48)
"""In the header: the run of the stack.  It changes when the market jumps back."""
RUN: Final = 6
"""The run of a block's figures, a word of its head."""

CLAIM_LOCK_BYTE: Final = 0

assert HEADER.size == PROOF_SLICE.start < PROOF_SLICE.stop <= HEADER_BYTES
assert BLOCK_HEAD.size == BLOCK_HEAD_BYTES
assert BUCKET_SLOTS == 4352
assert BLOCK_BYTES % 64 == 0, "blocks share no cache line"
assert COUNTERS.keys() == HISTOGRAMS.keys()
assert all(len(names) + len(COMMON_COUNTERS) <= COUNTER_SLOTS for names in COUNTERS.values())
assert all(len(names) <= HISTOGRAM_SLOTS for names in HISTOGRAMS.values())
assert all(COMMON_COUNTERS.keys().isdisjoint(names) for names in COUNTERS.values())


class MetricsError(Exception):
    """This build cannot use a metrics segment; the message gives the reason and the remedy."""


class Liveness(NamedTuple):
    """The owner of a block, its state and its last heartbeat.

    ``heartbeat_ns`` is CLOCK_MONOTONIC; ``pid`` is the one in the owner's own namespace.
    """

    service: str
    instance: str
    state: str
    heartbeat_ns: int
    pid: int


def counter_names(service: str) -> list[str]:
    """The counters of ``service`` in the order of their slots.

    Raises:
        KeyError: no such service.
    """
    return [*_names(COUNTERS, service), *COMMON_COUNTERS]


def histogram_names(service: str) -> list[str]:
    """The histograms of ``service`` in the order of their slots.

    Raises:
        KeyError: no such service.
    """
    return list(_names(HISTOGRAMS, service))


def _names(table: dict[str, dict[str, str]], service: str) -> dict[str, str]:
    try:
        return table[service]
    except KeyError:
        raise KeyError(
            f"no service {service!r} in the metrics; known: {', '.join(table)}"
        ) from None


def fingerprint() -> int:
    """Checksum of all names in their order: it changes with every change of the tables."""
    names = [(s, counter_names(s), histogram_names(s)) for s in COUNTERS]
    return zlib.crc32(repr((names, STATES, COUNTER_SLOTS, BUCKET_SLOTS)).encode())


def header_image() -> bytes:
    """The header of a new segment."""
    head = HEADER.pack(MAGIC, LAYOUT_VERSION, fingerprint(), BLOCK_COUNT, BLOCK_BYTES)
    return head + os.urandom(PROOF_SLICE.stop - PROOF_SLICE.start)


def _header_problem(segment: bytes | memoryview | mmap.mmap) -> str | None:
    """Why this build cannot use the segment; None if it can."""
    if len(segment) < HEADER_BYTES:
        return f"{len(segment)} bytes, too short for a metrics segment"
    magic, version, names, block_count, block_bytes = HEADER.unpack_from(segment)
    if magic != MAGIC:
        return "not a metrics segment"
    ours = (LAYOUT_VERSION, fingerprint(), BLOCK_COUNT, BLOCK_BYTES)
    if (version, names, block_count, block_bytes) != ours:
        return (
            f"layout {version}/{names:08x}/{block_count}x{block_bytes}, this build has "
            f"{ours[0]}/{ours[1]:08x}/{ours[2]}x{ours[3]}"
        )
    if len(segment) < SEGMENT_BYTES:
        return f"{len(segment)} bytes, {SEGMENT_BYTES} expected"
    return None


def check_header(name: str, segment: bytes | memoryview | mmap.mmap) -> None:
    """Refuse a segment of another build.

    Raises:
        MetricsError: names both layouts.
    """
    problem = _header_problem(segment)
    if problem:
        raise MetricsError(
            f"metrics segment {name}: {problem}; stop what uses it and remove it, "
            "or set another SHM_METRICS"
        )


def block_offset(block: int) -> int:
    """Offset of block number ``block``; its owner holds the lock on that byte."""
    return HEADER_BYTES + block * BLOCK_BYTES


def histogram_words(segment: memoryview, block_start: int, slot: int) -> memoryview:
    """The buckets of one histogram of a block, unsigned 64-bit words."""
    start = block_start + HISTOGRAMS_OFFSET + slot * BUCKET_SLOTS * WORD
    return segment[start : start + BUCKET_SLOTS * WORD].cast("Q")


def text_of(field: bytes) -> str:
    """A zero-padded name as text."""
    return field.rstrip(b"\0").decode("utf-8", "replace")


def read_liveness(name: str) -> list[Liveness]:
    """Every claimed block of the segment ``name``, whether its owner is alive or dead.

    Raises:
        MetricsError: the segment does not exist, or belongs to another build.
    """
    try:
        # Without O_NONBLOCK, opening a named pipe would wait.
        path = os.path.join(SHM_DIRECTORY, name)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise MetricsError(f"metrics segment {name} does not exist: nothing runs here") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size < HEADER_BYTES:
            raise MetricsError(f"metrics segment {name}: not a file, or too short")
        with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as segment:
            check_header(name, segment)
            heads = [
                BLOCK_HEAD.unpack_from(segment, block_offset(block)) for block in range(BLOCK_COUNT)
            ]
    finally:
        os.close(descriptor)
    return [
        Liveness(
            text_of(head[SERVICE]),
            text_of(head[INSTANCE]),
            STATES[head[STATE]],
            head[HEARTBEAT],
            head[PID],
        )
        for head in heads
        if head[CLAIMS] and head[CLAIMS] % 2 == 0 and head[STATE] < len(STATES)
    ]
