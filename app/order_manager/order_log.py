"""The log line of each order: made and written after the answers, without ever blocking.

A container's log is a pipe.  With a slow reader an ordinary write would block the trading path.
And each write wakes the container engine's log driver: at 2,000 orders/s on two cores, that
increased the latency from tick to durable ACK from 360 to 550 us.  So lines wait up to DELAY_NS in
a bounded backlog and are written together; lines that do not fit are dropped, and their number is
logged.  The text is made then, too: for many orders in a row it takes a third of the time.
"""

import os
import select
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from app.model.money import WHOLE, Scale, money_text
from app.model.orders import SIDE_NAMES, STATUS_NAMES, Order, tick_of_order_id
from app.model.reject_codes import RejectCode
from app.model.timestamps import utc_text
from app.model.words import one_word
from app.runtime.log import get_logger

log = get_logger()

BACKLOG_BYTES_MAX: Final = 1024 * 1024
WRITE_BYTES: Final = 16 * 1024
"""A backlog of this size is written at once, whatever its age."""
EVENTS_MAX: Final = 256
"""The lines of that many orders are made at once, whatever their age."""
DELAY_NS: Final = 20_000_000
"""A killed process loses up to this much of its log; the store has every order.  Other events of
the process are written immediately, so they may precede lines with earlier times."""

OrderEvent = tuple[str, Order, str]
"""What happened, the order, its client's name."""
EVENT_NAMES: Final = {
    "Received": "order_received",
    "Repeated": "order_repeated",
    "PendingNew": "order_pending_new",
    "New": "order_new",
    "PartiallyFilled": "order_partially_filled",
    "Filled": "order_filled",
    "Canceled": "order_canceled",
    "Rejected": "order_rejected",
    "Expired": "order_expired",
    "Denied": "order_denied",
}
"""In a line of text -> ``event`` in a line of JSON."""
WARNINGS: Final = frozenset({"Denied", "Rejected"})
"""At level WARNING; all other events of orders are at INFO."""
CODE_NAMES: Final = {int(code): code.name for code in RejectCode}
"""A dictionary, since an order's line should not wait for an enumeration's call."""


class Note(msgspec.Struct):
    """Any other event: its name, its line of text, its JSON fields."""

    name: str
    text: str
    fields: Mapping[str, Any] = {}
    warning: bool = False


Event = OrderEvent | Note
QtyText = Callable[[int], str]
_encode = msgspec.json.Encoder().encode


class OrderLog:
    """Lines in the form of :mod:`app.runtime.log` on a file descriptor."""

    def __init__(
        self, form: str = "text", level: str = "INFO", descriptor: int = 2, scale: Scale = WHOLE
    ) -> None:
        self.dropped, self._qty_text = 0, scale.qty_text if scale.decimals else str
        self._enabled = level != "ERROR"
        self._only_warnings = level == "WARNING"
        self._json = form == "json"
        self._descriptor = descriptor
        self._backlog = b""
        self._unmade: list[tuple[int, list[Event]]] = []
        """Batches without lines so far: their time, their events."""
        self._unmade_events = 0
        self._oldest_ns = 0
        """Time of the oldest event or line that waits; 0: none does."""
        # A file never blocks; a pipe that polls writable takes PIPE_BUF bytes without blocking.
        self._is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._chunk_bytes = BACKLOG_BYTES_MAX if self._is_file else select.PIPE_BUF
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def write(self, events: Sequence[Event], now_ns: int) -> None:
        """Append a batch's events, if any; write without blocking when they are many or old.

        The caller calls :meth:`drain` when idle, for the lines that are left.  An order of an event
        must not change any more.
        """
        if not self._enabled:
            return
        if self._only_warnings:
            events = [event for event in events if _is_warning(event)]
        if events:
            self._unmade.append((now_ns, list(events)))
            self._unmade_events += len(events)
            self._oldest_ns = self._oldest_ns or now_ns
        if self._unmade_events >= EVENTS_MAX:
            self._make_lines()
        if len(self._backlog) >= WRITE_BYTES or now_ns - self._oldest_ns >= DELAY_NS:
            self.drain()

    def _make_lines(self) -> None:
        for now_ns, events in self._unmade:
            self._append(events, now_ns)
        self._unmade.clear()
        self._unmade_events = 0

    def _append(self, events: Sequence[Event], now_ns: int) -> None:
        stamp = utc_text(now_ns, 6)
        if self._json:
            info = f'{{"ts":"{stamp}","level":"info","service":"order_manager","event":'
            lines = _json_lines(events, info, info.replace("info", "warning", 1), self._qty_text)
        else:
            info = f"{stamp} INFO order_manager "
            warning = f"{stamp} WARNING order_manager "
            lines = _text_lines(events, info, warning, self._qty_text)
        text = "\n".join(lines) + "\n"
        if len(self._backlog) + len(text) > BACKLOG_BYTES_MAX:
            self.dropped += len(lines)
        else:
            if self.dropped:
                text = f"{info}{_dropped(self.dropped, self._json)}\n{text}"
                self.dropped = 0
            self._backlog += text.encode()

    def drain(self) -> None:
        """Write as much of the backlog as the descriptor takes without blocking."""
        self._make_lines()
        while self._backlog:
            if not self._is_file:
                events = self._poll.poll(0)
                if not events or not events[0][1] & select.POLLOUT:
                    return
            chunk = self._backlog[: self._chunk_bytes]
            if len(chunk) < len(self._backlog):
                # Other parts of this process write to the same log: split between lines.
                chunk = chunk[: chunk.rfind(b"\n") + 1] or chunk
            try:
                written = os.write(self._descriptor, chunk)
            except OSError:
                # The reader is gone: drop the lines, keep serving orders.
                self._backlog = b""
                return
            self._backlog = self._backlog[written:]
        self._oldest_ns = 0

    @property
    def pending(self) -> bool:
        """Whether lines wait for the descriptor."""
        return bool(self._backlog or self._unmade)


def _is_warning(event: Event) -> bool:
    if isinstance(event, tuple):
        return event[0] in WARNINGS
    return event.warning


# The lines of orders are made inside the loops: a call per line would cost a tenth more.


def _text_lines(events: Sequence[Event], info: str, warning: str, qty_text: QtyText) -> list[str]:
    lines = []
    for event in events:
        if not isinstance(event, tuple):
            lines.append((warning if _is_warning(event) else info) + event.text)
            continue
        what, order, client = event
        price = "MARKET" if order.price is None else money_text(order.price)
        head = warning if order.code and what in WARNINGS else info
        line = (
            f"{head}{what} Order {order.id}: "
            f"{SIDE_NAMES[order.side]} {qty_text(order.qty)} {order.symbol} @ {price} "
            f"client={one_word(client)} id={order.id}"
        )
        if order.code:
            line = f"{line} {CODE_NAMES[order.code]}: {order.msg}"
        elif order.filled_qty != order.qty:
            line = f"{line} filled={qty_text(order.filled_qty)}"
        lines.append(line)
    return lines


def _json_lines(events: Sequence[Event], info: str, warning: str, qty_text: QtyText) -> list[str]:
    lines = []
    quoted = _QuotedTexts()
    for event in events:
        if not isinstance(event, tuple):
            lines.append((warning if _is_warning(event) else info) + _note_json(event))
            continue
        what, order, client = event
        head, end = info, '"}'
        if order.code:
            head = warning if what in WARNINGS else info
            end = f'","code":"{CODE_NAMES[order.code]}","msg":{_quoted(order.msg)}}}'
        price = "null" if order.price is None else money_text(order.price)
        lines.append(
            f'{head}"{EVENT_NAMES[what]}","client":{quoted[client]},"id":{order.id},'
            f'"symbol":{quoted[order.symbol]},"side":"{SIDE_NAMES[order.side]}",'
            f'"qty":{qty_text(order.qty)},"price":{price},"filled_qty":{qty_text(order.filled_qty)},'
            f'"status":"{STATUS_NAMES[order.status]}{end}'
        )
    return lines


class _QuotedTexts(dict[str, str]):
    """Text -> JSON string, for the clients and symbols of one batch."""

    def __missing__(self, text: str) -> str:
        self[text] = _quoted(text)
        return self[text]


def _quoted(value: object) -> str:
    return _encode(value).decode()


def _note_json(event: Note) -> str:
    fields = "".join(f",{_quoted(key)}:{_quoted(value)}" for key, value in event.fields.items())
    return f'"{event.name}"{fields}}}'


def _dropped(count: int, as_json: bool) -> str:
    return f'"log_lines_dropped","count":{count}}}' if as_json else f"log_lines_dropped={count}"


def trace_orders(events: Sequence[Event]) -> None:
    """At DEBUG: the tick of each order, as a strategy's id names it."""
    for event in events:
        if isinstance(event, tuple):
            _, order, client = event
            log.debug("order_answered", client=client, id=order.id, seq=tick_of_order_id(order.id))
