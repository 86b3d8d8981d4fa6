"""Encodes columns of numbers into ``timestamp*symbol*value*`` frames, a few bytes per nanosecond.

Each field has its place in a matrix of one row per frame; the bytes that are used, row by row, are
the frames.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from app.market_data.frame_encoder import Fields, decimals_of, format_timestamps
from app.market_data.ragged import Bytes, Ints, Mask
from app.model.money import DECIMALS_MAX
from app.model.wire.frames import DELIMITER

_STEPS: Final = 10 ** np.arange(DECIMALS_MAX, -1, -1, dtype=np.int64)
"""Money units in the last decimal of a number with 0, 1, ... 9 decimals."""

Lengths = npt.NDArray[np.uint8]


class Names:
    """The symbols, as a matrix of one row each."""

    def __init__(self, names: list[str]) -> None:
        texts = np.array([name.encode() for name in names], np.bytes_)
        self.matrix: Bytes = texts.view(np.uint8).reshape(len(names), texts.itemsize)
        self.lengths: Ints = np.char.str_len(texts).astype(np.int64)


def price_frames(event_ns: Ints, symbol: Ints, units: Ints, names: Names) -> tuple[Bytes, Lengths]:
    """Frames with prices of so many money units, with the fewest decimals that are exact.

    Returns all bytes, and the number of bytes in each frame.
    """
    decimals = np.zeros(len(units), np.int64)
    left = np.flatnonzero(units % _STEPS[0])
    for count in range(1, DECIMALS_MAX + 1):
        decimals[left] = count
        left = left[units[left] % _STEPS[count] != 0]
        if not len(left):
            break
    return _frames(event_ns, symbol, decimals_of(units // _STEPS[decimals], decimals), names)


def whole_frames(event_ns: Ints, symbol: Ints, values: Ints, names: Names) -> tuple[Bytes, Lengths]:
    """As :func:`price_frames`, for whole numbers."""
    return _frames(event_ns, symbol, decimals_of(values, np.zeros(len(values), np.int64)), names)


def _frames(event_ns: Ints, symbol: Ints, values: Fields, names: Names) -> tuple[Bytes, Lengths]:
    count = len(event_ns)
    times, time_lengths = format_timestamps(event_ns)
    rows = np.arange(count, dtype=np.int64)
    value_matrix = values.data.reshape(count, -1)
    value_starts = values.starts - rows * value_matrix.shape[1]
    # Columns that no frame uses are left out.
    first = int(value_starts.min())
    end = int((value_starts + values.lengths).max())
    zero = np.zeros(count, np.int64)
    parts = (
        (times[:, : time_lengths.max()], zero, time_lengths),
        (names.matrix[symbol], zero, names.lengths[symbol]),
        (value_matrix[:, first:end], value_starts - first, values.lengths),
    )
    width = sum(matrix.shape[1] + 1 for matrix, _, _ in parts)
    out = np.full((count, width), DELIMITER[0], np.uint8)
    used: Mask = np.ones((count, width), np.bool_)
    at = 0
    for matrix, starts, lengths in parts:
        place = slice(at, at + matrix.shape[1])
        out[:, place] = matrix
        columns = np.arange(matrix.shape[1], dtype=np.uint8)
        low = starts.astype(np.uint8)[:, None]
        used[:, place] = (columns >= low) & (columns < low + lengths.astype(np.uint8)[:, None])
        at = place.stop + 1
    total = time_lengths + names.lengths[symbol] + values.lengths + len(parts)
    return out[used], total.astype(np.uint8)
