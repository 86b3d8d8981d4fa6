"""All names of the kernel, in plain Python."""

from typing import Final

from app.kernel.plain.book import BookView
from app.kernel.plain.equity import Trades, Worth
from app.kernel.plain.histogram import record_ages, record_latency
from app.kernel.plain.memory import (
    BOOK_HEADER_BYTES,
    BOOK_MAGIC,
    BOOK_SLOT_BYTES,
    LAYOUT_VERSION,
    MAX_READERS,
    NO_END,
    READER_NAME_BYTES,
    RECORD_BYTES,
    RING_HEADER_BYTES,
    RING_MAGIC,
    SYMBOL_BYTES_MAX,
    Damaged,
    make_read_only,
)
from app.kernel.plain.order_frames import AckWriter, OrderReader
from app.kernel.plain.orders import FLAT, Intent, IntentSearch, OrderGate, tally
from app.kernel.plain.parse import (
    BAD_PRICE,
    BAD_SENTIMENT,
    BAD_SYMBOL,
    BAD_TIMESTAMP,
    FULL,
    MARK,
    NEED_MORE,
    PARSE_SLACK_BYTES,
    FieldParser,
    parse_sentiments,
    parse_ticks,
)
from app.kernel.plain.reader import TickReader
from app.kernel.plain.ring import RingView, TickWriter
from app.kernel.plain.signals import (
    UNDECIDED,
    CrossAverage,
    Tick,
    call_on_tick,
    join_sentiment,
)
from app.kernel.plain.trace import (
    TRACE_ACKED,
    TRACE_BATCH_BYTES,
    TRACE_CLIENT_BYTES,
    TRACE_DUPLICATE,
    TRACE_HANDLED,
    TRACE_HEAD_BYTES,
    TRACE_OK,
    TRACE_RECORD_BYTES,
    TRACE_SENT,
    TRACE_STAGES,
    AnswerNotes,
    BatchTimes,
    OrderTrace,
)

__all__ = [
    "BAD_PRICE",
    "BAD_SENTIMENT",
    "BAD_SYMBOL",
    "BAD_TIMESTAMP",
    "BOOK_HEADER_BYTES",
    "BOOK_MAGIC",
    "BOOK_SLOT_BYTES",
    "COMPILED",
    "FLAT",
    "FULL",
    "LAYOUT_VERSION",
    "MARK",
    "MAX_READERS",
    "NEED_MORE",
    "NO_END",
    "PARSE_SLACK_BYTES",
    "READER_NAME_BYTES",
    "RECORD_BYTES",
    "RING_HEADER_BYTES",
    "RING_MAGIC",
    "SYMBOL_BYTES_MAX",
    "TRACE_ACKED",
    "TRACE_BATCH_BYTES",
    "TRACE_CLIENT_BYTES",
    "TRACE_DUPLICATE",
    "TRACE_HANDLED",
    "TRACE_HEAD_BYTES",
    "TRACE_OK",
    "TRACE_RECORD_BYTES",
    "TRACE_SENT",
    "TRACE_STAGES",
    "UNDECIDED",
    "AckWriter",
    "AnswerNotes",
    "BatchTimes",
    "BookView",
    "CrossAverage",
    "Damaged",
    "FieldParser",
    "Intent",
    "IntentSearch",
    "OrderGate",
    "OrderReader",
    "OrderTrace",
    "RingView",
    "Tick",
    "TickReader",
    "TickWriter",
    "Trades",
    "Worth",
    "call_on_tick",
    "join_sentiment",
    "make_read_only",
    "parse_sentiments",
    "parse_ticks",
    "record_ages",
    "record_latency",
    "tally",
    "use_vectors",
]

COMPILED: Final = False


def use_vectors(wanted: bool) -> bool:
    """For tests of the compiled kernel; here there are none."""
    return False
