"""Reject codes, numbered in bands by owner; they are returned, never raised.

The store keeps the number and the wire carries the name; neither is ever reused for another
meaning.
"""

from enum import IntEnum
from typing import Final


class RejectCode(IntEnum):
    """The reason for a reject.  100: wire and access; 200: risk; 300: execution; 400: store."""

    OK = 0

    BAD_JSON = 100
    MISSING_FIELD = 101
    UNKNOWN_FIELD = 102
    BAD_FIELD = 103
    DUPLICATE_KEY = 104
    UNKNOWN_OP = 105
    FRAME_TOO_LONG = 106
    BAD_UTF8 = 107
    OTHER_PROTOCOL = 108
    AUTH_REQUIRED = 109
    BAD_TOKEN = 110
    FRAME_RATE = 111
    OTHER_BOOK = 112
    NOT_ALLOWED = 113
    DUPLICATE_ID = 120
    CLIENTS_MAX = 121
    BEHIND_HELD = 122
    INTERNAL = 199

    UNKNOWN_SYMBOL = 200
    TICK_SIZE = 201
    LOT_SIZE = 202
    HALTED = 203
    REDUCE_ONLY = 204
    QTY_MAX = 205
    NOTIONAL_MAX = 206
    STALE_PRICE = 207
    PRICE_COLLAR = 208
    POSITION_LIMIT = 209
    GROSS_EXPOSURE = 210
    OPEN_ORDERS = 211
    DAILY_LOSS = 212
    RATE_LIMIT = 213
    THROTTLED = 214
    KILL_SWITCH = 215
    NO_BOOK = 216
    SYMBOLS_MAX = 217

    NO_MARKET = 300
    UNKNOWN_ORDER = 301
    NOT_OPEN = 302
    UNKNOWN_CLIENT = 303
    NOT_MARKETABLE = 304
    PRICE_TOO_HIGH = 305

    STORE_UNAVAILABLE = 400


ALWAYS_RETRYABLE: Final = frozenset(
    {
        RejectCode.FRAME_RATE,
        RejectCode.OTHER_BOOK,
        RejectCode.BEHIND_HELD,
        RejectCode.STORE_UNAVAILABLE,
    }
)
"""Nothing was decided about the order: the same id may be sent again, in every mode."""

CLOCK_BOUND: Final = frozenset(
    {
        RejectCode.NO_BOOK,
        RejectCode.STALE_PRICE,
        RejectCode.PRICE_COLLAR,
        RejectCode.RATE_LIMIT,
        RejectCode.THROTTLED,
        RejectCode.HALTED,
        RejectCode.REDUCE_ONLY,
    }
)
"""Reasons that depend on when the order arrives, not on its content.  In a replay such a reject is
retryable and nothing is stored; live it is the order's final answer."""


def retryable(code: RejectCode, replaying: bool) -> bool:
    """Whether the client may send the same order under the same id again."""
    return code in ALWAYS_RETRYABLE or (replaying and code in CLOCK_BOUND)
