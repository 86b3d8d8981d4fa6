"""Types of the kernel, compiled or plain; docstrings are in the ``.pxi`` files and ``plain``."""

from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Ticks = npt.NDArray[np.void]  # of TICK_DTYPE
Bytes = bytearray | memoryview
Int8s = npt.NDArray[np.int8]
Int16s = npt.NDArray[np.int16]

COMPILED: bool

LAYOUT_VERSION: int
BOOK_MAGIC: int
RING_MAGIC: int
NO_END: int
MAX_READERS: int
SYMBOL_BYTES_MAX: int
BOOK_HEADER_BYTES: int
BOOK_SLOT_BYTES: int
RING_HEADER_BYTES: int
RECORD_BYTES: int
READER_NAME_BYTES: int
PARSE_SLACK_BYTES: int

NEED_MORE: int
FULL: int
MARK: int
BAD_TIMESTAMP: int
BAD_SYMBOL: int
BAD_PRICE: int
BAD_SENTIMENT: int

TRACE_STAGES: int
TRACE_CLIENT_BYTES: int
TRACE_HEAD_BYTES: int
TRACE_RECORD_BYTES: int
TRACE_BATCH_BYTES: int
TRACE_SENT: int
TRACE_HANDLED: int
TRACE_ACKED: int
TRACE_OK: int
TRACE_DUPLICATE: int

UNDECIDED: int
FLAT: int

class Damaged(Exception): ...

def use_vectors(wanted: bool) -> bool: ...

class FieldParser:
    symbol_count: int
    def __init__(self, symbols: list[str] | list[bytes]) -> None: ...

def parse_ticks(
    parser: FieldParser,
    buffer: Bytes,
    start: int,
    end: int,
    out: Ticks,
    first_seq: int = 0,
) -> tuple[int, int, int]: ...
def parse_sentiments(
    parser: FieldParser,
    buffer: Bytes,
    start: int,
    end: int,
    out: Ticks,
    complete_before: int,
) -> tuple[int, int, int, int, int]: ...
def make_read_only(segment: Bytes, start: int) -> None: ...

class BookView:
    count: int
    def __init__(self, segment: Bytes) -> None: ...
    def put(
        self,
        index: int,
        price: float,
        event_ns: int = 0,
        recv_ns: int = 0,
        seq: int | None = None,
    ) -> None: ...
    def get(self, index: int) -> tuple[float, int, int, int] | None: ...
    def heartbeat(self) -> None: ...
    def count_gap(self) -> None: ...
    def repair(self) -> None: ...
    def check(self, first: int, end: int) -> None: ...
    @property
    def heartbeat_ns(self) -> int: ...
    @property
    def gaps(self) -> int: ...
    @property
    def boot_id(self) -> int: ...

class RingView:
    def __init__(self, segment: Bytes) -> None: ...
    @property
    def state(self) -> tuple[int, int, int | None, int]: ...
    @property
    def policy(self) -> int: ...
    def reader(self, slot: int) -> tuple[int, int, int, str]: ...
    def set_reader(
        self, slot: int, state: int, cursor: int | None = None, name: str | None = None
    ) -> None: ...

class TickWriter(RingView):
    def __init__(self, ring: Bytes, book: Bytes, parser: FieldParser) -> None: ...
    def note_times(self, times: BatchTimes) -> None: ...
    def push(self, buffer: Bytes, start: int, end: int, recv_ns: int) -> tuple[int, int, int]: ...
    def receive(
        self,
        descriptor: int,
        buffer: Bytes,
        fill: int,
        piece_bytes: int,
        until_ns: int,
        buckets: npt.NDArray[np.uint64],
    ) -> tuple[int, int, int, int, int, int, int, int]: ...
    def lag(self) -> int: ...
    def check(self) -> None: ...
    def set_next_seq(self, seq: int) -> None: ...
    def finish(self, seq: int) -> None: ...
    def heartbeat(self) -> None: ...
    def wait_space(self, timeout_ns: int) -> bool: ...

class TickReader(RingView):
    lost: int
    last_seq: int
    def __init__(self, ring: Bytes, slot: int) -> None: ...
    @property
    def position(self) -> int: ...
    def available(self) -> int: ...
    def next_seq(self) -> int: ...
    def wait(self, timeout_ns: int) -> int: ...
    def copy(self, out: Ticks) -> int: ...
    def advance(self, count: int) -> None: ...

class Tick:
    symbol: str
    price: float
    event_ns: int
    seq: int
    sentiment: int

class Intent:
    seq: int
    event_ns: int
    symbol_index: int
    symbol: str
    signal: int
    target: int
    price: float
    recv_us: int
    order_id: int
    def __init__(
        self,
        seq: int,
        event_ns: int,
        symbol_index: int,
        symbol: str,
        signal: int,
        target: int,
        price: float,
        recv_us: int,
        order_id: int,
    ) -> None: ...

class BatchTimes:
    def __init__(self, memory: Bytes) -> None: ...
    def note(self, first_seq: int, end_seq: int, at_ns: int, done_ns: int = 0) -> None: ...
    def find(self, seq: int, limit_ns: int) -> tuple[int, int] | None: ...

class OrderTrace:
    def __init__(self, memory: Bytes) -> None: ...
    def append(
        self, kind: int, flags: int, order_id: int, client: bytes, stages: Sequence[int]
    ) -> None: ...
    def sent(
        self,
        client: bytes,
        orders: Sequence[tuple[Any, ...]],
        intents: Sequence[Intent],
        first: int,
        decided_ns: int,
        sent_ns: int,
        gateway: BatchTimes | None,
        orderbook: BatchTimes | None,
    ) -> None: ...
    def acked(
        self,
        client: bytes,
        orders: Sequence[tuple[Any, ...]],
        answers: Sequence[Any],
        due_ns: Sequence[int],
        sent_ns: Sequence[int],
        acked_ns: int,
    ) -> None: ...
    def handled(
        self,
        answers: Sequence[tuple[Any, bytes]],
        only: Container[int] | None,
        committed_ns: int,
        sent_ns: int,
        repeats: OrderTrace,
    ) -> None: ...

class AnswerNotes:
    def __init__(self, orders: OrderTrace, repeats: OrderTrace) -> None: ...
    def note(self, answers: list[tuple[Any, bytes]], counts: Any, events: list[Any]) -> None: ...

def call_on_tick(
    on_tick: Callable[[Tick], str | None],
    ticks: Ticks,
    sentiments: Int16s,
    symbols: list[str],
    signals: Int8s,
) -> None: ...
def join_sentiment(
    ticks: Ticks, events: Ticks, next_event: int, latest: Int16s, out: Int16s
) -> int: ...

class CrossAverage:
    count: int
    short_ticks: int
    long_ticks: int
    def __init__(self, count: int, short_ticks: int, long_ticks: int) -> None: ...
    def signals(self, ticks: Ticks, out: Int8s) -> None: ...
    def agree(
        self, ticks: Ticks, sentiments: Int16s, bullish: int, bearish: int, out: Int8s
    ) -> None: ...

class OrderGate:
    def __init__(
        self,
        position: Int8s,
        busy: npt.NDArray[np.uint8],
        symbols: list[str],
        every: bool,
        orders_max: int,
    ) -> None: ...
    def intents(self, ticks: Ticks, signals: Int8s, start: int) -> tuple[list[Intent], int]: ...
    def one_by_one(self, ticks: Ticks, signals: Int8s) -> IntentSearch: ...

class IntentSearch(Iterator[Intent]):
    def __init__(self, gate: OrderGate, ticks: Ticks, signals: Int8s) -> None: ...
    def __next__(self) -> Intent: ...

class Trades:
    def __init__(
        self, symbols: int, order_qty: int, factor: float, units_of: Callable[[float], int]
    ) -> None: ...
    def __len__(self) -> int: ...
    def load(self, symbol: int, qty: int, cost: int, realized: int, turnover: int) -> None: ...
    def take(self, search: IntentSearch, held: list[int]) -> bool: ...
    def rows(self, first: int, end: int) -> list[tuple[int, int, int, int, int]]: ...
    def changed(self, first: int) -> list[tuple[int, int, int, int, int, int, int]]: ...
    def forget(self) -> None: ...

class Worth:
    price: npt.NDArray[np.float64]
    last_ns: npt.NDArray[np.int64]
    def __init__(
        self,
        price: npt.NDArray[np.float64],
        last_ns: npt.NDArray[np.int64],
        a_ns: float,
        step: int,
    ) -> None: ...
    def equity(self) -> float: ...
    def follow(
        self,
        ticks: Ticks,
        fills: Sequence[tuple[Any, ...]] | Trades,
        at: int,
        event_ns: list[int],
        equity: list[float],
    ) -> int: ...

def tally(signals: Int8s) -> tuple[int, int, int, int]: ...
def record_latency(buckets: npt.NDArray[np.uint64], value_ns: int, count: int = 1) -> None: ...
def record_ages(buckets: npt.NDArray[np.uint64], ticks: Ticks, now_ns: int) -> None: ...

class OrderReader:
    def __init__(
        self,
        make: Callable[..., Any],
        symbols: dict[str, None],
        clients: dict[str, None],
        otherwise: Callable[[bytes], Any],
        *,
        default_client: str,
        id_max: int,
        qty_max: int,
        ts_bytes_max: int,
        proof_bytes: int,
    ) -> None: ...
    def read(self, frame: bytes) -> Any: ...
    def read_all(self, frames: list[bytes], requests: list[Any]) -> None: ...

class AckWriter:
    def __init__(
        self,
        otherwise: Callable[..., bytes],
        statuses: Sequence[str],
        types: Sequence[str],
        tifs: Sequence[str],
    ) -> None: ...
    def write(self, order: Any, client: str, duplicate: bool = False) -> bytes: ...
