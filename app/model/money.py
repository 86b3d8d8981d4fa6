"""Money and quantities as integers: exact, comparable, summable in any order.

A price is counted in units of 1e-9.  A quantity is counted in units of 10^-D, where D is
QTY_DECIMALS, so an *amount* (a quantity times a price) is counted in units of 10^-(9+D).  With D=0
quantities are whole, and amounts and prices have the same unit.
"""

import operator
import re
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Any, Final

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


QTY_DECIMALS_MAX: Final = 9
MAX_QTY: Final = 10**15
"""Largest quantity of an order, if it fits :data:`MAX_QTY_UNITS`."""
MAX_QTY_UNITS: Final = 10**18
"""The last round number of units that fits the 64 bits of the store's column."""

_NUMBER: Final = re.compile(r"-?[0-9]{1,100}(\.[0-9]{1,100})?([eE][+-]?[0-9]{1,3})?")


class Scale:
    """How many decimals quantities have: converts units to numbers and texts, and back.

    ``decimals``: QTY_DECIMALS; ``factor``: units of a quantity of 1, and of an amount within a unit
    of money.  ``qty_max``: the largest quantity of an order, in units.
    """

    __slots__ = ("decimals", "factor", "qty_max")

    def __init__(self, decimals: int = 0) -> None:
        self.decimals = decimals
        self.factor: int = 10**decimals
        self.qty_max = min(MAX_QTY * self.factor, MAX_QTY_UNITS)

    def qty(self, units: int) -> int | float:
        """A quantity as a number: an int if quantities are whole, else the nearest float."""
        return units / self.factor if self.decimals else units

    def qty_text(self, units: int) -> str:
        """Exact decimal text without trailing zeros: ``10``, ``0.05``."""
        if not self.decimals:
            return str(units)
        whole, part = divmod(abs(units), self.factor)
        fraction = f".{part:0{self.decimals}d}".rstrip("0").rstrip(".") if part else ""
        return f"{'-' if units < 0 else ''}{whole}{fraction}"

    def qty_units(self, number: str | int | float | Decimal) -> int | None:
        """The units of a quantity, exact; None if it is no number, or has more decimals.

        A float stands for the shortest decimal number that it is printed as.
        """
        text = str(number)
        if not _NUMBER.fullmatch(text):
            return None
        sign, figures, exponent = Decimal(text).as_tuple()
        assert isinstance(exponent, int)
        digits = "".join(map(str, figures))
        shift = exponent + self.decimals
        if shift < 0:
            if digits[shift:].strip("0"):
                return None
            digits = digits[:shift] or "0"
        else:
            digits += "0" * shift
        return -int(digits) if sign else int(digits)

    def own_qty(self, number: Any) -> int | None:
        """The units of a quantity that a program computes; None if it is none.

        Whole quantities are integers, or floats of their value.  Otherwise a number counts as the
        nearest multiple of 10^-decimals (half to even), because binary floats have no exact ones.
        """
        try:
            if isinstance(number, bool | str):
                return None
            if not self.decimals:
                whole = int(number)
                return whole if whole == number else None
            if hasattr(number, "__index__"):
                return operator.index(number) * self.factor
            exact = number if isinstance(number, Decimal) else Decimal(repr(float(number)))
            return _nearest(exact, self.factor)
        except (TypeError, ValueError, ArithmeticError):
            return None

    def amount(self, units: int) -> float:
        """A quantity times a price, as the nearest float."""
        return units / (UNITS * self.factor)

    def amount_text(self, units: int) -> str:
        """The same as exact decimal text, as :func:`money_text`."""
        if not self.decimals:
            return money_text(units)
        places = DECIMALS_MAX + self.decimals
        whole, part = divmod(abs(units), UNITS * self.factor)
        fraction = f"{part:0{places}d}".rstrip("0").ljust(2, "0")
        return f"{'-' if units < 0 else ''}{whole}.{fraction}"

    def amount_units(self, amount: float | Decimal) -> int:
        """The units of an amount of money, nearest to a decimal number."""
        if not (self.decimals or isinstance(amount, Decimal)):
            return to_units(amount)
        exact = amount if isinstance(amount, Decimal) else Decimal(repr(amount))
        return _nearest(exact, UNITS * self.factor)

    def money(self, units: int) -> int:
        """An amount in units of 1e-9, the nearest; half to even."""
        return divide(units, self.factor) if self.decimals else units


def _nearest(number: Decimal, factor: int) -> int:
    """``number * factor`` to the nearest integer, half to even, at any precision."""
    numerator, denominator = number.as_integer_ratio()
    return divide(numerator * factor, denominator)


WHOLE: Final = Scale()
"""Of whole quantities."""
