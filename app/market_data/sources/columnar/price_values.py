"""Prices of a typed column as money units: exact, or the row is named as malformed."""

from decimal import Decimal
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from app.market_data.ragged import Ints, Mask
from app.market_data.sources.columnar.arrow_memory import ArrowColumn
from app.market_data.sources.value_columns import normalize_price
from app.model.money import DECIMALS_MAX, MAX_PRICE, UNITS, decimal_to_units

BadValues = dict[int, tuple[bytes, str]]
"""Row -> its value as text, and what is wrong with it."""

INTEGERS: Final = {
    "c": np.int8,
    "C": np.uint8,
    "s": np.int16,
    "S": np.uint16,
    "i": np.int32,
    "I": np.uint32,
    "l": np.int64,
    "L": np.uint64,
}
FLOATS: Final = {"e": np.float16, "f": np.float32, "g": np.float64}
TEXTS: Final = {"u": False, "U": True, "z": False, "Z": True}
"""Format of the C data interface -> the type of its numbers; of texts: whether offsets are wide."""

_MAX_UNITS: Final = MAX_PRICE * UNITS
_EXACT: Final = 1e15
"""Two decimal numbers with at most 15 digits never have the same float64."""


def price_units(column: ArrowColumn, kind: str, sparse: bool = False) -> tuple[Ints, BadValues]:
    """Money units of each price, shape ``(n,)``, and the rows without a price.

    ``kind``: the column's type, for the error.  ``sparse``: a null, a NaN or an empty text is no
    fault; its units are 0.

    Raises:
        ValueError: a column of this type has no prices.
    """
    valid = column.valid()
    bad: BadValues = {}
    if not sparse:
        bad = dict.fromkeys(np.flatnonzero(~valid).tolist(), (b"", "missing"))
    if column.format in FLOATS:
        numbers = column.numbers(FLOATS[column.format])
        if sparse:
            valid = valid & ~np.isnan(numbers)
        units, good = _of_floats(numbers)
        _one_by_one(units, np.flatnonzero(valid & ~good), lambda row: _text(numbers[row]), bad)
    elif column.format in INTEGERS:
        numbers = column.numbers(INTEGERS[column.format])
        good = (numbers > 0) & (numbers <= MAX_PRICE)
        units = np.where(good, numbers, 0).astype(np.int64) * UNITS
        _one_by_one(units, np.flatnonzero(valid & ~good), lambda row: b"%d" % numbers[row], bad)
    elif column.format.startswith("d:"):
        units = _of_decimals(column, valid, bad)
    elif column.format in TEXTS:
        texts = column.texts(TEXTS[column.format])
        if sparse:
            valid = valid & (texts.lengths > 0)
        units = np.zeros(column.length, np.int64)
        _one_by_one(units, np.flatnonzero(valid), lambda row: texts.text(row).strip(), bad)
    elif sparse and column.format == "n":
        units = np.zeros(column.length, np.int64)
    else:
        raise ValueError(f"is of type {kind}, not a number")
    if sparse:
        units[~valid] = 0
    return units, bad


def _text(number: Any) -> bytes:
    """The shortest decimal text of a float that reads back as the same float."""
    return str(number).encode()


def _one_by_one(units: Ints, rows: Ints, text_of: Any, bad: BadValues) -> None:
    for row in rows.tolist():
        text = text_of(row)
        try:
            units[row] = decimal_to_units(Decimal(normalize_price(text).decode()))
        except ValueError as error:
            bad[row] = (text, str(error))


def _of_floats(numbers: npt.NDArray[Any]) -> tuple[Ints, Mask]:
    """Units of the shortest decimal number with each float, and where they are certain.

    A decimal number of few enough digits that has the float is the shortest, so it is enough to
    find one.
    """
    units = np.zeros(len(numbers), np.int64)
    floats = numbers.astype(np.float64)
    in_range = (floats > 0) & (floats <= MAX_PRICE)
    left = np.flatnonzero(in_range & (numbers.dtype.itemsize > 2))  # the rest by its text
    exact = numbers.dtype == np.float64
    for decimals in (9, 6, 4, 2, 0) if exact else range(DECIMALS_MAX + 1):
        if not len(left):
            break
        scale = 10.0**decimals
        scaled = floats[left] * scale
        digits = np.rint(scaled)
        found = ((digits / scale).astype(numbers.dtype) == numbers[left]) & (digits < _EXACT)
        units[left[found]] = digits[found].astype(np.int64) * 10 ** (DECIMALS_MAX - decimals)
        # Between two texts of the same length only the text of the float itself decides.
        left = left[~found & (np.abs(scaled - digits) != 0.5)]
    good = in_range & (units > 0)
    return units, good


def _of_decimals(column: ArrowColumn, valid: Mask, bad: BadValues) -> Ints:
    """Units of fixed-point numbers, ``d:precision,scale[,bits]``."""
    parts = [int(part) for part in column.format[2:].split(",")]
    scale, bits = parts[1], parts[2] if len(parts) > 2 else 128
    words = bits // 64
    if words:
        table = column.numbers(np.dtype((np.uint64, (words,))))
        numbers = table.reshape(column.length, words)
        low, high = numbers[:, 0], numbers[:, 1:]
        small = (high == 0).all(axis=1) & (low < np.uint64(1 << 63))
        values = np.where(small, low, 0).astype(np.int64)
    else:
        narrow = column.numbers(np.int32)
        numbers, values = narrow[:, None], narrow.astype(np.int64)
        small = values >= 0
    units = np.zeros(len(values), np.int64)
    if 0 <= scale <= DECIMALS_MAX:
        good = small & (values > 0) & (values <= MAX_PRICE * 10**scale)
        units[good] = values[good] * 10 ** (DECIMALS_MAX - scale)
    else:
        good = np.zeros(len(values), np.bool_)

    def text(row: int) -> bytes:
        number = int.from_bytes(numbers[row].tobytes(), "little", signed=True)
        digits = tuple(map(int, str(abs(number))))
        return str(Decimal((number < 0, digits, -scale))).encode()

    _one_by_one(units, np.flatnonzero(valid & ~good), text, bad)
    return units
