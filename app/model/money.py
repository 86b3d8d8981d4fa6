"""Money as integers of 1e-9 units: exact, comparable, summable in any order."""

from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Final

UNITS: Final = 1_000_000_000
"""Money units (1e-9) per unit of currency."""

MAX_PRICE = 9_000_000_000
"""Largest price: money is int64 in 1e-9 units, and 9e9 * 1e9 is the last round number that fits."""

DECIMALS_MAX: Final = 9
"""Decimal places of a price on the wire: money is counted in units of 1e-9."""

FLOAT_EXACT: Final = 2e6
"""Below this, ``price * 1e9`` is off by less than half a unit: two roundings of 2**-53 of 2e15."""


def to_units(amount: float) -> int:
    """The number of units nearest to a decimal number that was read as a float; must be finite."""
    if -FLOAT_EXACT < amount < FLOAT_EXACT:
        return round(amount * 1e9)
    return decimal_to_units(Decimal(repr(amount)))


def decimal_to_units(amount: Decimal) -> int:
    """The number of units nearest to a decimal number, half to even."""
    return int((amount * UNITS).to_integral_value(ROUND_HALF_EVEN))


@lru_cache(maxsize=16384)
def money_text(units: int) -> str:
    """Exact decimal text with at least two decimal places: ``173.20``, ``-0.000000001``."""
    whole, part = divmod(abs(units), UNITS)
    fraction = f"{part:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if units < 0 else ''}{whole}.{fraction}"


def divide(amount: int, by: int) -> int:
    """``amount / by`` to the nearest integer, half to even; exact for integers of any size."""
    quotient, rest = divmod(amount, by)
    twice = 2 * abs(rest)
    if twice > abs(by) or (twice == abs(by) and quotient % 2):
        quotient += 1
    return quotient
