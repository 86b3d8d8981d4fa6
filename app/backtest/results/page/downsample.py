"""Fewer points that draw the same line: the lowest and the highest of each column of pixels."""

from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

COLUMNS: Final = 600

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def extremes(at: Ints, value: Floats, columns: int = COLUMNS) -> Ints:
    """The places of the points to draw, in order; the first and the last are among them.

    ``at`` never decreases; it is cut into ``columns`` of equal width.  Of equal values the first
    is taken.
    """
    if len(at) <= 2 * columns:
        return np.arange(len(at))
    span = int(at[-1]) - int(at[0])
    # Floats: a span of nanoseconds times the columns does not fit int64.
    column = np.minimum((at - at[0]) * (columns / max(span, 1)), columns - 1).astype(np.int64)
    order = np.lexsort((np.arange(len(at)), value, column))
    heads = np.flatnonzero(np.diff(column[order], prepend=-1))
    low = order[heads]
    order = np.lexsort((np.arange(len(at)), -value, column))
    high = order[heads]
    ends = np.array([0, len(at) - 1])
    return np.unique(np.concatenate([low, high, ends]))


def pieces(count: int, rows: int) -> list[slice]:
    """``count`` points in at most ``rows`` parts of nearly the same length."""
    edges = np.unique(np.linspace(0, count, min(rows, count) + 1).astype(np.int64)).tolist()
    return [slice(first, end) for first, end in pairwise(edges)]
