"""The digest of a run's orders and their answers: equal runs have equal digests.

Hashed is one line per answered order, in the order in which they were sent::

    id,side,symbol,qty,price,status,filled_qty,avg_price,code

All values are those of the answer's order: ``side`` is BUY or SELL, ``price`` and ``avg_price`` are
exact decimals (``null`` if there is none), ``qty`` and ``filled_qty`` have no more decimals than
they need, ``code`` is empty for an accepted order.  An answer
without an order gives ``id,,,,,,,,code``.
"""

from hashlib import blake2b
from typing import Final

DIGEST_BYTES: Final = 8


def trade_line(
    order_id: int,
    side: str,
    symbol: str,
    qty: int | str,
    price: str,
    status: str,
    filled_qty: int | str,
    avg_price: str,
    code: str,
) -> str:
    """One order and its answer, as it is hashed; quantities with decimals are texts."""
    return f"{order_id},{side},{symbol},{qty},{price},{status},{filled_qty},{avg_price},{code}\n"


def unrecorded_line(order_id: int, code: str) -> str:
    """An order of whose answer nothing but the code is known."""
    return f"{order_id},,,,,,,,{code}\n"


class TradesHash:
    """A running digest, and how many orders went into it."""

    def __init__(self) -> None:
        self._digest = blake2b(digest_size=DIGEST_BYTES)
        self.orders = self.filled = self.refused = 0

    def add(self, lines: list[str], filled: int, refused: int) -> None:
        """Add answered orders, made by :func:`trade_line`, and what became of them."""
        self._digest.update("".join(lines).encode())
        self.orders += len(lines)
        self.filled += filled
        self.refused += refused

    @property
    def value(self) -> int:
        """The digest as an unsigned 64-bit number."""
        return int.from_bytes(self._digest.digest(), "big")


def hash_text(value: int) -> str:
    """16 hex digits; ``-`` for 0, which stands for "no digest"."""
    return f"{value:016x}" if value else "-"
