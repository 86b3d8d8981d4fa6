"""Rows of an order store that are to be published, as messages in the one order that they have.

Each stream of numbers is gapless for the reader's purpose: an order comes after all with lower
numbers, and so do fills and changes.  A fill or change comes after its order.  So three numbers,
the :class:`Marks`, say what has been published; the :class:`Digests` of these three rows say of
which history: a store that was restored from a backup has other rows under the same numbers.

Which row comes after some marks depends on the store alone, not on when or in what pages it is
read.  So two publishers of one store want the same row in the same place of the stream.
"""

import hashlib
import math
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final, NamedTuple, Self

import msgspec

from app.bus.link.messages import FillMessage, OrderMessage

ORDER, FILL, CHANGE = "order", "fill", "change"


class Marks(NamedTuple):
    """What has been published: the last order, fill and change, and of which store."""

    store: str = ""
    orders: int = 0
    fills: int = 0
    changes: int = 0

    def text(self) -> str:
        """For a header: ``store:orders:fills:changes``."""
        return ":".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The reverse of :meth:`text`.

        Raises:
            ValueError: it is none.
        """
        store, *numbers = text.split(":")
        orders, fills, changes = (int(number) for number in numbers)
        if min(orders, fills, changes) < 0 or not store:
            raise ValueError(f"no marks: {text[:80]!r}")
        return cls(store, orders, fills, changes)

    def behind(self, other: "Marks") -> bool:
        """Whether ``other`` has anything that this lacks."""
        return any(ours < theirs for ours, theirs in zip(self[1:], other[1:], strict=True))

    def steps(self, before: "Marks") -> list[tuple[str, int, int]]:
        """Kind, number before and number now, of each that is another one."""
        kinds = zip((ORDER, FILL, CHANGE), before[1:], self[1:], strict=True)
        return [(kind, then, now) for kind, then, now in kinds if then != now]

    @property
    def total(self) -> int:
        """All rows together."""
        return self.orders + self.fills + self.changes


class Digests(NamedTuple):
    """Of the rows that marks name: the last order, fill and change.  Empty: there is none."""

    order: str = ""
    fill: str = ""
    change: str = ""

    def text(self) -> str:
        """For a header: ``order:fill:change``."""
        return ":".join(self)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The reverse of :meth:`text`; of no text, no digests: an earlier version sends none.

        Raises:
            ValueError: it is neither.
        """
        parts = text.split(":") if text else ("", "", "")
        if len(parts) != len(cls._fields):
            raise ValueError(f"no digests: {text[:80]!r}")
        return cls(*parts)


NO_DIGESTS: Final = Digests()


def digest_of(message: OrderMessage | FillMessage) -> str:
    """What tells this row from any other that may have its number: 16 hexadecimal digits.

    The members are fixed, so a version with more members in its messages finds the same.  The time
    is one of them: after a restore, two rows that agree in all the rest are still two.
    """
    m = message
    row: tuple[object, ...]
    row = (m.run, m.order_no, m.client, m.id, m.at_ns, m.side, m.symbol, m.qty, m.price)
    if isinstance(m, FillMessage):
        row += ("fill", m.fill_no)
    else:
        row += (m.event, m.change_no, m.status, m.filled_qty, m.filled_notional)
    return hashlib.blake2b(repr(row).encode(), digest_size=8).hexdigest()


class Item(NamedTuple):
    """A row to publish; ``marks`` and ``digests``: with it and all before it."""

    kind: str
    no: int
    run: str
    body: bytes
    marks: Marks
    digests: Digests

    @property
    def msg_id(self) -> str:
        """``<run>:<kind>:<no>``."""
        return f"{self.run}:{self.kind}:{self.no}"


class OrderRow(NamedTuple):
    """An order to publish, and its fill if it had exactly one: that has no row of its own."""

    message: OrderMessage
    fill: FillMessage | None


class Page(NamedTuple):
    """What one snapshot of the store has after some marks; ``more_...``: it may have more."""

    orders: list[OrderRow]
    """From the last one that is published, whose fill may not be."""
    fills: list[FillMessage]
    """Those with a row of their own."""
    changes: list[OrderMessage]
    more_orders: bool
    more_fills: bool
    more_changes: bool


_encode: Final = msgspec.json.Encoder().encode


def items(page: Page, marks: Marks, digests: Digests = NO_DIGESTS) -> Iterator[Item]:
    """The messages of a page in their order.  A page that is cut off gives what is certain."""
    for kind, no, message in _ordered(page, marks):
        number: dict[str, Any] = {f"{kind}s": no}
        marks = marks._replace(**number)
        digests = digests._replace(**{kind: digest_of(message)})
        yield Item(kind, no, message.run, _encode(message), marks, digests)


def _ordered(page: Page, marks: Marks) -> Iterator[tuple[str, int, OrderMessage | FillMessage]]:
    """Kind, number and message of each row after ``marks``, as far as the page has all before it.

    The next row depends on the next one of each kind, and on nothing that was read before.
    """
    inline = (row.fill for row in page.orders if row.fill is not None)
    numbered = sorted(chain(inline, page.fills), key=lambda each: each.fill_no)
    # Beyond the last of a full page of fills, others may come before that of an order.
    end = page.fills[-1].fill_no if page.more_fills else math.inf
    orders = deque(row for row in page.orders if row.message.order_no > marks.orders)
    fills = deque(each for each in numbered if marks.fills < each.fill_no <= end)
    changes = deque(page.changes)
    published = (row for row in page.orders if row.message.order_no <= marks.orders)
    owed, last_fill = max((_inline_no(row) for row in published), default=0), marks.fills
    while not (
        (page.more_orders and not orders)
        or (page.more_fills and not fills)
        or (page.more_changes and not changes)
    ):
        order, fill = next(iter(orders), None), next(iter(fills), None)
        change = next(iter(changes), None)
        # A page has the fill in an order's own row together with that, so nothing separates them.
        due = fill is not None and fill.fill_no <= owed
        first = fill if due else _first(order, fill, change, last_fill)
        if first is None:
            return
        if isinstance(first, FillMessage):
            last_fill = fills.popleft().fill_no
            yield FILL, last_fill, first
        elif first.change_no is None:
            owed = max(owed, _inline_no(orders.popleft()))
            yield ORDER, first.order_no, first
        else:
            changes.popleft()
            yield CHANGE, first.change_no, first


def _inline_no(row: OrderRow | None) -> int:
    return 0 if row is None or row.fill is None else row.fill.fill_no


def _first(
    order: OrderRow | None, fill: FillMessage | None, change: OrderMessage | None, last_fill: int
) -> OrderMessage | FillMessage | None:
    """Which of the next order, fill and change comes first; all fills in the order of numbers."""
    inline_no, behind = _inline_no(order), math.inf if order is None else order.message.order_no
    rows: list[OrderMessage | FillMessage] = []
    if order is not None and (fill is None or inline_no <= fill.fill_no):
        rows.append(order.message)
    # After a gap in their numbers, the fill of an order further on may come first, but not if this
    # order has a later one.
    certain = fill is not None and (
        order is None or fill.fill_no == last_fill + 1 or fill.fill_no < inline_no
    )
    if fill is not None and certain and fill.order_no < behind:
        rows.append(fill)
    if change is not None and change.order_no < behind:
        rows.append(change)
    return min(rows, key=_place, default=None)


def _place(row: OrderMessage | FillMessage) -> tuple[int, ...]:
    """By time; of one time, an order comes before its fills, and changes are the last.

    All rows of one time are committed together, and a later transaction has a later time, also that
    of a process whose clock is behind (``AnchoredClock``).
    """
    if isinstance(row, FillMessage):
        return row.at_ns, 0, row.order_no, 1
    if row.change_no is None:
        return row.at_ns, 0, row.order_no, 0
    return row.at_ns, 1
