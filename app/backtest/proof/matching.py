"""Compares two sequences of orders that both grow; pure, no clock, no I/O."""

from collections import deque
from typing import Final, NamedTuple

from app.backtest.proof.order_line import OrderLine
from app.model.orders import place_of_order_id
from app.model.trades_hash import TradesHash, hash_text

HASH_FIELD: Final = "trades hash"
"""The field of a difference that only the digest shows; its order is the first not compared."""


class Difference(NamedTuple):
    """Where the live run is not the computed one.

    ``field``: the first that differs, or ``order`` where only one of them has it.  ``expected`` and
    ``seen`` are the values; None for an order that is not there.
    """

    client: str
    id: int
    field: str
    expected: str | None
    seen: str | None

    def __str__(self) -> str:
        return (
            f"{self.client}: order {self.id}: {self.field}: expected "
            f"{self.expected or 'none'}, seen {self.seen or 'none'}"
        )


class Matcher:
    """The orders of one client against the computed ones.

    An order of the computation is missing when a later one has been seen, because a strategy waits
    for each answer, or when the live run is known to have passed its tick.
    """

    def __init__(self, client: str) -> None:
        self.client = client
        self.equal = 0
        self.expected = 0
        self.seen = 0
        self.difference: Difference | None = None
        """The first one; later ones may be its consequences."""
        self._expected: deque[OrderLine] = deque()
        self._seen: deque[OrderLine] = deque()
        self._last_id = 0
        self._hash, self._computed_hash = TradesHash(), TradesHash()

    @property
    def hash(self) -> str:
        """The trades hash of the orders seen, as the strategy's report prints it."""
        return hash_text(self._hash.value) if self.seen else "-"

    @property
    def waiting(self) -> int:
        """How many orders of the live run wait for the computation."""
        return len(self._seen)

    def expect(self, lines: list[OrderLine]) -> None:
        """The next computed orders."""
        self.expected += len(lines)
        self._expected.extend(lines)
        self._computed_hash.add([line.hashed for line in lines], 0, 0)

    def see(self, lines: list[OrderLine]) -> None:
        """The next orders of the live run, in the sequence in which they were accepted."""
        self.seen += len(lines)
        self._seen.extend(lines)
        self._hash.add([line.hashed for line in lines], 0, 0)

    def match(self, computed: int, passed: int) -> None:
        """Compare what can be compared.

        ``computed``: how many ticks the computation has seen; ``passed``: of how many ticks the
        live run has all orders stored, and all of these have been given to :meth:`see`.
        """
        while self._seen and self._seen[0].tick < computed:
            self._compare(self._seen.popleft())
        while not self._seen and self._expected and self._expected[0].tick < passed:
            self._differ(self._expected.popleft(), None)

    def conclude(self, orders: int, trades_hash: int) -> None:
        """The live run is over, with so many orders and this digest; the computation is, too.

        What was not seen of the run is equal if the digests are.
        """
        if self.difference is not None:
            return
        computed = self._computed_hash.value
        if (orders, trades_hash) == (self.expected, computed):
            self.equal = self.seen = self.expected
            self._hash = self._computed_hash
            self._expected.clear()
            return
        first = self._expected[0].id if self._expected else max(self._last_id, 1)
        self.difference = Difference(
            self.client,
            first,
            HASH_FIELD,
            f"{hash_text(computed)} of {self.expected} orders",
            f"{hash_text(trades_hash)} of {orders}",
        )

    def _compare(self, seen: OrderLine) -> None:
        place = place_of_order_id(seen.id)
        if self._last_id and place <= place_of_order_id(self._last_id):
            self._differ(None, seen)
            return
        self._last_id = seen.id
        while self._expected and place_of_order_id(self._expected[0].id) < place:
            self._differ(self._expected.popleft(), None)
        if not self._expected or self._expected[0].id != seen.id:
            self._differ(None, seen)
            return
        expected = self._expected.popleft()
        if expected == seen:
            self.equal += 1
        else:
            self._differ(expected, seen)

    def _differ(self, expected: OrderLine | None, seen: OrderLine | None) -> None:
        if self.difference is not None:
            return
        one = expected or seen
        assert one is not None
        field, values = "order", (expected and str(expected), seen and str(seen))
        if expected and seen:
            field = next(name for name in one._fields if _get(expected, name) != _get(seen, name))
            values = _get(expected, field), _get(seen, field)
        self.difference = Difference(self.client, one.id, field, *values)


def _get(line: OrderLine, name: str) -> str:
    return str(getattr(line, name))
