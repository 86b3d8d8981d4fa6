"""Orders and their states: pure values, no clock, no I/O.

Money is int in 1e-9 units (:mod:`app.model.money`), quantity int in units of 10^-QTY_DECIMALS, time
int64 nanoseconds since the epoch in UTC.
"""

from typing import Final

import msgspec

from app.model.money import divide

BUY: Final = 1
SELL: Final = -1
SIDES: Final = {"BUY": BUY, "SELL": SELL}
SIDE_NAMES: Final = {BUY: "BUY", SELL: "SELL"}

PLAIN, MARKET, LIMIT = range(3)
"""Order types.  PLAIN is an order without a type: it executes at once at the market's price, if
that is no worse than the price it names, or not at all."""
TYPES: Final = {"MARKET": MARKET, "LIMIT": LIMIT}
TYPE_NAMES: Final = ("PLAIN", "MARKET", "LIMIT")

IOC, GTC, DAY = range(3)
TIFS: Final = {"IOC": IOC, "GTC": GTC, "DAY": DAY}
TIF_NAMES: Final = ("IOC", "GTC", "DAY")

# States: names of FIX OrdStatus (tag 39), plus Denied (rejected by us; Rejected: by the venue).
PENDING_NEW, NEW, PARTIALLY_FILLED, FILLED, CANCELED, REJECTED, EXPIRED, DENIED = range(8)
STATUS_NAMES: Final = (
    "PendingNew",
    "New",
    "PartiallyFilled",
    "Filled",
    "Canceled",
    "Rejected",
    "Expired",
    "Denied",
)

ACCEPT, FILL, FILL_LAST, CANCEL, REJECT, EXPIRE, DENY = range(7)
"""Events of an order.  FILL leaves some quantity open, FILL_LAST none."""

TRANSITIONS: Final = {
    (PENDING_NEW, ACCEPT): NEW,
    (PENDING_NEW, REJECT): REJECTED,
    (PENDING_NEW, DENY): DENIED,
    (NEW, FILL): PARTIALLY_FILLED,
    (NEW, FILL_LAST): FILLED,
    (NEW, CANCEL): CANCELED,
    (NEW, EXPIRE): EXPIRED,
    (PARTIALLY_FILLED, FILL): PARTIALLY_FILLED,
    (PARTIALLY_FILLED, FILL_LAST): FILLED,
    (PARTIALLY_FILLED, CANCEL): CANCELED,
    (PARTIALLY_FILLED, EXPIRE): EXPIRED,
}

OPEN_STATES: Final = frozenset({PENDING_NEW, NEW, PARTIALLY_FILLED})

INT64_MAX: Final = (1 << 63) - 1


def db_int(value: int) -> int | str:
    """An integer as the store keeps it: as decimal text if it does not fit 64 bits."""
    return value if -INT64_MAX <= value <= INT64_MAX else str(value)


TICKS_MAX: Final = 1 << 40
"""Ticks of a run whose orders have ids of their own: at a million a second, twelve days."""
ORDERS_A_TICK: Final = 1 << 13
"""Orders that one tick has ids for; all ids are below 2^53, which every JSON reader holds."""


def order_id_of_tick(seq: int, nth: int = 0) -> int:
    """The id of the order that a strategy sends on tick ``seq``, its ``nth`` there; never 0."""
    return seq + 1 + nth * TICKS_MAX


def tick_of_order_id(order_id: int) -> int:
    """The tick on which a strategy sent the order."""
    return (order_id - 1) % TICKS_MAX


def place_of_order_id(order_id: int) -> tuple[int, int]:
    """The tick, and which of its orders: a strategy sends its orders in this sequence."""
    nth, seq = divmod(order_id - 1, TICKS_MAX)
    return seq, nth


class InvalidTransitionError(Exception):
    """An event that the order's state does not allow: a bug in the caller."""


def next_status(status: int, event: int) -> int:
    """The state after ``event``.

    Raises:
        InvalidTransitionError: the table has no such transition.
    """
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise InvalidTransitionError(
            f"{STATUS_NAMES[status]}: no transition on event {event}"
        ) from None


class Order(msgspec.Struct, gc=False):
    """One order: the request and its state.  Field order is the store's column order.

    ``order_no`` is unique in the store and increases with time; ``id`` is unique per client only.
    ``price`` is None for a market order without a price.  ``ts`` is the client's own time, as the
    JSON text it sent.  ``exec_first`` (a fill number) and ``exec_count`` identify the executions
    before the acknowledgment, and ``exec_price`` is the price if there was exactly one.  ``fee`` to
    ``borrow`` are what they cost, and ``event_ns`` is their time for the borrow, None if shorts are
    free.  Later executions are in the store only.
    """

    order_no: int
    client_no: int
    id: int
    at_ns: int
    side: int
    symbol: str
    qty: int
    price: int | None
    type: int
    tif: int
    ts: str | None
    status: int
    filled_qty: int = 0
    filled_notional: int = 0
    exec_first: int = 0
    exec_count: int = 0
    exec_price: int = 0
    code: int = 0
    msg: str | None = None
    fee: int = 0
    slippage: int = 0
    impact: int = 0
    borrow: int = 0
    event_ns: int | None = None

    @property
    def avg_price(self) -> int | None:
        """Average execution price, None before the first execution."""
        if self.price is not None and self.filled_qty * self.price == self.filled_notional:
            return self.price if self.filled_qty else None
        return divide(self.filled_notional, self.filled_qty) if self.filled_qty else None

    def apply(self, event: int) -> None:
        """Move to the next state.

        Raises:
            InvalidTransitionError: the state does not allow the event.
        """
        status = TRANSITIONS.get((self.status, event))
        self.status = next_status(self.status, event) if status is None else status

    def fill(self, qty: int, price: int) -> None:
        """Record an execution of ``qty`` at ``price``."""
        assert 0 < qty <= self.qty - self.filled_qty, (qty, self)
        self.filled_qty = filled = self.filled_qty + qty
        self.filled_notional += qty * price
        self.apply(FILL_LAST if filled == self.qty else FILL)

    def row(self) -> tuple[object, ...]:
        """The values in the store's column order."""
        row = msgspec.structs.astuple(self)
        if (
            self.filled_notional > INT64_MAX
            or self.fee > INT64_MAX
            or self.slippage > INT64_MAX
            or self.impact > INT64_MAX
            or self.borrow > INT64_MAX
        ):
            fields = list(row)
            for name in BEYOND_64_BITS:
                fields[self.__struct_fields__.index(name)] = db_int(getattr(self, name))
            return tuple(fields)
        return row


BEYOND_64_BITS: Final = ("filled_notional", "fee", "slippage", "impact", "borrow")
"""Fields of an order that may be larger than the store's integers."""
