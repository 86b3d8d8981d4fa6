"""Orders and their states: pure values, no clock, no I/O.

Money is int in 1e-9 units (:mod:`app.model.money`), quantity int in units of 10^-QTY_DECIMALS, time
int64 nanoseconds since the epoch in UTC.
"""

from typing import Any, ClassVar, Final

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

_EVENTS: Final = DENY + 1
_NEXT: Final = tuple(
    [
        TRANSITIONS.get((status, event))
        for status in range(len(STATUS_NAMES))
        for event in range(_EVENTS)
    ]
)
"""The same by number, because every order looks three times: None is no transition."""

OPEN_STATES: Final = frozenset({PENDING_NEW, NEW, PARTIALLY_FILLED})

INT64_MAX: Final = (1 << 63) - 1
_INT64_LOWEST: Final = -INT64_MAX


def db_int(value: int) -> int | str:
    """An integer as the store keeps it: as decimal text if it does not fit 64 bits."""
    return value if _INT64_LOWEST <= value <= INT64_MAX else str(value)


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


ORDER_FIELDS: Final = (
    "order_no",
    "client_no",
    "id",
    "at_ns",
    "side",
    "symbol",
    "qty",
    "price",
    "type",
    "tif",
    "ts",
    "status",
    "filled_qty",
    "filled_notional",
    "exec_first",
    "exec_count",
    "exec_price",
    "code",
    "msg",
    "fee",
    "slippage",
    "impact",
    "borrow",
    "event_ns",
)
"""Of an order, in the store's column order."""


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


class Record:
    """A value, compared, shown, copied and pickled by its ``fields``: what ``__init__`` takes.

    A msgspec Struct does the same, but compiled code cannot reach its fields without a lookup.
    Functions named ``..._of`` make one without the call of its ``__init__``, for the hot paths.
    """

    __slots__ = ()
    fields: ClassVar[tuple[str, ...]] = ()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        return self._values() == other._values()

    __hash__ = None  # type: ignore[assignment]  # its fields may change

    def __repr__(self) -> str:
        shown = map("{}={!r}".format, self.fields, self._values())
        return f"{type(self).__name__}({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._values()

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self.fields])


REQUEST_FIELDS: Final = (
    "side",
    "symbol",
    "qty",
    "price",
    "ts",
    "id",
    "client",
    "type",
    "tif",
    "proof",
)
"""Of an order's request."""


class OrderRequest(Record):
    """A well-formed order: passed all checks that need no state.

    ``proof``: the boot id of the price book, which only processes that share its memory can read.
    It shows that the sender is one of the stack's own strategies, so that the order's price and
    time are those of the tick it was decided on.
    """

    __slots__ = REQUEST_FIELDS
    fields = REQUEST_FIELDS

    def __init__(
        self,
        side: int,
        symbol: str,
        qty: int,
        price: int | None,
        ts: str | None,
        id: int | None,
        client: str,
        type: int,
        tif: int,
        proof: str | None = None,
    ) -> None:
        self.side, self.symbol, self.qty, self.price = side, symbol, qty, price
        self.ts, self.id, self.client = ts, id, client
        self.type, self.tif, self.proof = type, tif, proof


def request_of(
    side: int,
    symbol: str,
    qty: int,
    price: int | None,
    ts: str | None,
    order_id: int | None,
    client: str,
) -> OrderRequest:
    """A PLAIN order without a proof."""
    request = OrderRequest.__new__(OrderRequest)
    request.side, request.symbol, request.qty, request.price = side, symbol, qty, price
    request.ts, request.id, request.client = ts, order_id, client
    request.type, request.tif, request.proof = PLAIN, IOC, None
    return request


class Order(Record):
    """One order: the request and its state.  The sequence of its fields is the store's of columns.

    ``order_no`` is unique in the store and increases with time; ``id`` is unique per client only.
    ``price`` is None for a market order without a price.  ``ts`` is the client's own time, as the
    JSON text it sent.  ``exec_first`` (a fill number) and ``exec_count`` identify the executions
    before the acknowledgment, and ``exec_price`` is the price if there was exactly one.  ``fee`` to
    ``borrow`` are what they cost, and ``event_ns`` is their time for the borrow, None if shorts are
    free.  Later executions are in the store only.
    """

    __slots__ = ORDER_FIELDS
    fields = ORDER_FIELDS

    def __init__(
        self,
        order_no: int,
        client_no: int,
        id: int,
        at_ns: int,
        side: int,
        symbol: str,
        qty: int,
        price: int | None,
        type: int,
        tif: int,
        ts: str | None,
        status: int,
        filled_qty: int = 0,
        filled_notional: int = 0,
        exec_first: int = 0,
        exec_count: int = 0,
        exec_price: int = 0,
        code: int = 0,
        msg: str | None = None,
        fee: int = 0,
        slippage: int = 0,
        impact: int = 0,
        borrow: int = 0,
        event_ns: int | None = None,
    ) -> None:
        self.order_no, self.client_no, self.id, self.at_ns = order_no, client_no, id, at_ns
        self.side, self.symbol, self.qty, self.price = side, symbol, qty, price
        self.type, self.tif, self.ts, self.status = type, tif, ts, status
        self.filled_qty, self.filled_notional = filled_qty, filled_notional
        self.exec_first, self.exec_count, self.exec_price = exec_first, exec_count, exec_price
        self.code, self.msg = code, msg
        self.fee, self.slippage, self.impact, self.borrow = fee, slippage, impact, borrow
        self.event_ns = event_ns

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
        status = _NEXT[self.status * _EVENTS + event]
        self.status = next_status(self.status, event) if status is None else status

    def fill(self, qty: int, price: int) -> None:
        """Record an execution of ``qty`` at ``price``."""
        assert 0 < qty <= self.qty - self.filled_qty, (qty, self)
        filled = self.filled_qty + qty
        self.filled_qty = filled
        self.filled_notional = self.filled_notional + qty * price
        self.apply(FILL_LAST if filled == self.qty else FILL)

    def row(self) -> tuple[object, ...]:
        """The values in the store's column order."""
        if (
            self.filled_notional > INT64_MAX
            or self.fee > INT64_MAX
            or self.slippage > INT64_MAX
            or self.impact > INT64_MAX
            or self.borrow > INT64_MAX
        ):
            return tuple([db_int(x) if isinstance(x, int) else x for x in self._values()])
        return (
            self.order_no,
            self.client_no,
            self.id,
            self.at_ns,
            self.side,
            self.symbol,
            self.qty,
            self.price,
            self.type,
            self.tif,
            self.ts,
            self.status,
            self.filled_qty,
            self.filled_notional,
            self.exec_first,
            self.exec_count,
            self.exec_price,
            self.code,
            self.msg,
            self.fee,
            self.slippage,
            self.impact,
            self.borrow,
            self.event_ns,
        )

    def copy(self) -> "Order":
        """The order as it is now."""
        return Order(*self._values())


def order_of(
    request: OrderRequest, order_no: int, client_no: int, order_id: int, at_ns: int
) -> Order:
    """A new order in its first state."""
    order = Order.__new__(Order)
    order.order_no, order.client_no, order.id, order.at_ns = order_no, client_no, order_id, at_ns
    order.side, order.symbol, order.qty = request.side, request.symbol, request.qty
    order.price, order.type, order.tif = request.price, request.type, request.tif
    order.ts, order.status, order.msg, order.event_ns = request.ts, PENDING_NEW, None, None
    order.filled_qty = order.filled_notional = 0
    order.exec_first = order.exec_count = order.exec_price = order.code = 0
    order.fee = order.slippage = order.impact = order.borrow = 0
    return order


def executed_order(
    order_no: int,
    client_no: int,
    order_id: int,
    at_ns: int,
    side: int,
    symbol: str,
    qty: int,
    price: int,
    ts: str,
    fill_no: int,
) -> Order:
    """A PLAIN order that one execution at its own price has filled, without costs."""
    order = Order.__new__(Order)
    order.order_no, order.client_no, order.id, order.at_ns = order_no, client_no, order_id, at_ns
    order.side, order.symbol, order.qty = side, symbol, qty
    order.price, order.type, order.tif = price, PLAIN, IOC
    order.ts, order.status, order.msg, order.event_ns = ts, FILLED, None, None
    order.filled_qty, order.filled_notional = qty, qty * price
    order.exec_first, order.exec_count, order.exec_price = fill_no, 1, price
    order.code = order.fee = order.slippage = order.impact = order.borrow = 0
    return order


BEYOND_64_BITS: Final = ("filled_notional", "fee", "slippage", "impact", "borrow")
"""Fields of an order that may be larger than the store's integers."""
