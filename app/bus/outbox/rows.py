"""Rows of an order store that are to be published, as messages in the one order that they have.

Each stream of numbers is gapless for the reader's purpose: an order comes after all with lower
numbers, and so do fills and changes.  A fill or change comes after its order.  So three numbers,
the :class:`Marks`, say what has been published; the :class:`Digests` of these three rows say of
which history: a store that was restored from a backup has other rows under the same numbers.
"""

import hashlib
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
    """An order to publish, with the numbers of its first and last fill; 0: none before its ACK."""

    message: OrderMessage
    fill_first: int
    fill_last: int
    fill: FillMessage | None
    """If it had exactly one, which has no row of its own."""


class Page(NamedTuple):
    """What one snapshot of the store has after some marks; ``more_...``: it has more than that."""

    orders: list[OrderRow]
    """From the last one that is published, whose fill may not be."""
    fills: list[FillMessage]
    """Those with a row of their own."""
    changes: list[OrderMessage]
    more_orders: bool
    more_fills: bool


_encode: Final = msgspec.json.Encoder().encode


def items(page: Page, marks: Marks, digests: Digests = NO_DIGESTS) -> Iterator[Item]:
    """The messages of a page in their order.  A page that is cut off gives what is certain."""
    for kind, no, message in _ordered(page, marks):
        number: dict[str, Any] = {f"{kind}s": no}
        marks = marks._replace(**number)
        digests = digests._replace(**{kind: digest_of(message)})
        yield Item(kind, no, message.run, _encode(message), marks, digests)


def _ordered(page: Page, marks: Marks) -> Iterator[tuple[str, int, OrderMessage | FillMessage]]:
    """Kind, number and message of each row after ``marks``."""
    orders, fills = _certain(page)
    inline = [row.fill for row in orders if row.fill is not None]
    waiting = iter([row.message for row in orders if row.message.order_no > marks.orders])
    upcoming, last = next(waiting, None), marks.orders
    for fill in sorted(chain(inline, fills), key=lambda each: each.fill_no):
        if fill.fill_no <= marks.fills:
            continue
        while upcoming is not None and upcoming.order_no <= fill.order_no:
            last = upcoming.order_no
            yield ORDER, last, upcoming
            upcoming = next(waiting, None)
        yield FILL, fill.fill_no, fill
    while upcoming is not None:
        last = upcoming.order_no
        yield ORDER, last, upcoming
        upcoming = next(waiting, None)
    for change in page.changes:
        assert change.change_no is not None
        if change.order_no > last:
            break
        yield CHANGE, change.change_no, change


def _certain(page: Page) -> tuple[list[OrderRow], list[FillMessage]]:
    """Orders and fills before which nothing is missing.

    Fills are numbered as orders are, so those up to the last fill of a page of orders belong to
    its orders or to earlier ones; and beyond the last of a page of fills, others may be missing.
    """
    orders, fills = page.orders, page.fills
    if page.more_orders:
        top = max((row.fill_last for row in orders), default=0)
        fills = [fill for fill in fills if fill.fill_no <= top]
    if page.more_fills:
        bound = page.fills[-1].fill_no
        cut = (at for at, row in enumerate(orders) if row.fill_first > bound)
        orders = orders[: next(cut, len(orders))]
    return orders, fills
