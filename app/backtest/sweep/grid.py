"""The cells of a sweep: every combination of the parameters' values, or a seeded sample of them."""

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

import numpy as np

from app.market_data.generated.counter_rng import CounterRng
from app.runtime.run.strategy_params import Given
from app.runtime.run.strategy_params import setting_text as setting_text

VALUES_MAX: Final = 100_000
CELLS_MAX: Final = 100_000
PERMUTED_MAX: Final = 1_000_000
GRID_MAX: Final = 1 << 62
NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)
FORM: Final = "give NAME=low:high:step, such as short=5:50:5, or NAME=value,value"


class GridError(Exception):
    """A ``--param`` cannot be used; the message is one line."""


class Axis(NamedTuple):
    """One parameter and the values to try, as text."""

    name: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}={','.join(self.values)}"


class Cell(NamedTuple):
    """One combination: its number in the sweep, and the text that the setting takes."""

    number: int
    values: tuple[str, ...]
    """In the order of the axes."""
    text: str


def axis(spec: str) -> Axis:
    """What one ``--param`` says; a value that is given twice counts once.

    Raises:
        GridError: it says nothing that can be used.
    """
    name, equals, given = spec.partition("=")
    name = name.strip()
    if not equals or not name:
        raise GridError(f"--param {spec}: {FORM}")
    values: list[str] = []
    for piece in given.split(","):
        piece = piece.strip()
        if not piece:
            raise GridError(f"--param {spec}: a value is empty; {FORM}")
        values += _range(spec, piece) if ":" in piece else [piece]
        if len(values) > VALUES_MAX:
            raise GridError(f"--param {spec}: more than {VALUES_MAX:,} values; use a larger step")
    return Axis(name, tuple(dict.fromkeys(values)))


def _range(spec: str, piece: str) -> list[str]:
    """The values from low to high, both included, in exact decimals."""
    parts = [part.strip() for part in piece.split(":")]
    if len(parts) not in (2, 3) or not all(NUMBER.fullmatch(part) for part in parts):
        raise GridError(f"--param {spec}: {piece} is no range; {FORM}")
    try:
        low, high, step = (*map(Decimal, parts), Decimal(1))[:3]
    except InvalidOperation:
        raise GridError(f"--param {spec}: {piece} is no range; {FORM}") from None
    if step <= 0 or high < low:
        raise GridError(f"--param {spec}: {piece} must rise from low to high by a step above 0")
    count = int((high - low) / step) + 1
    if count > VALUES_MAX:
        raise GridError(f"--param {spec}: more than {VALUES_MAX:,} values; use a larger step")
    return [f"{low + i * step:f}" for i in range(count)]


def cells(
    axes: Sequence[Axis], fixed: Mapping[str, Given], sample: int | None = None, seed: int = 1
) -> list[Cell]:
    """The cells in the order of the grid, whose last axis changes fastest.

    ``fixed``: parameters that all cells share.  ``sample``: how many to draw, without repetition.

    Raises:
        GridError: an axis is given twice, or there are too many cells.
    """
    size = size_of(axes)
    wanted = size if sample is None else min(sample, size)
    if wanted > CELLS_MAX:
        raise GridError(f"{wanted:,} cells, at most {CELLS_MAX:,}: give fewer values or --random N")
    indices = range(size) if wanted == size else sorted(_drawn(size, wanted, seed))
    found = []
    for number, index in enumerate(indices):
        found.append(cell_of(number, axes, values_at(axes, index), fixed))
    return found


def check_once(axes: Sequence[Axis], fixed: Mapping[str, Given]) -> None:
    """Refuse a parameter that varies and is fixed.

    Raises:
        GridError: names the first one.
    """
    for each in axes:
        if each.name in fixed:
            raise GridError(f"{each.name} is in --param and in --params: give it once")


def size_of(axes: Sequence[Axis]) -> int:
    """The number of combinations.

    Raises:
        GridError: an axis is given twice, or there are too many combinations even to draw from.
    """
    names = [each.name for each in axes]
    for name in names:
        if names.count(name) > 1:
            raise GridError(f"--param {name} is given twice: put all values into one")
    size = math.prod(len(each.values) for each in axes)
    if size > GRID_MAX:
        raise GridError(f"{size:,} combinations are too many even to draw from: give fewer values")
    return size


def values_at(axes: Sequence[Axis], index: int) -> tuple[str, ...]:
    """The combination at a place of the grid, whose last axis changes fastest."""
    values: list[str] = []
    for each in reversed(axes):
        index, place = divmod(index, len(each.values))
        values.append(each.values[place])
    return tuple(reversed(values))


def cell_of(
    number: int, axes: Sequence[Axis], values: tuple[str, ...], fixed: Mapping[str, Given]
) -> Cell:
    """The cell of a combination."""
    own = dict(zip((each.name for each in axes), values, strict=True))
    return Cell(number, values, setting_text({**fixed, **own}))


def _drawn(size: int, count: int, seed: int) -> list[int]:
    """``count`` different numbers below ``size``; the same on any machine."""
    rng = CounterRng(seed, "sweep")
    if size <= PERMUTED_MAX:
        order: list[int] = np.argsort(rng.words(np.arange(size)), kind="stable")[:count].tolist()
        return order
    found: dict[int, None] = {}
    drawn = 0
    while len(found) < count:
        # Few repeat: at most a tenth of the grid is drawn.
        for word in rng.words(np.arange(drawn, drawn + count)).tolist():
            if len(found) < count:
                found[word % size] = None
        drawn += count
    return list(found)
