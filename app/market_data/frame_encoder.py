"""Encodes many ``timestamp*symbol*value*`` frames at once."""

from typing import Final

import numpy as np
import numpy.typing as npt

from app.market_data.ragged import Bytes, Ints, copy_fields
from app.market_data.sources.value_columns import DECIMALS_MAX
from app.model.timestamps import format_timestamps

_MARK: Final = ord("*")
_WHOLE_DIGITS: Final = 10
_VALUE_BYTES: Final = _WHOLE_DIGITS + 1 + DECIMALS_MAX
_POWERS: Final = 10 ** np.arange(19, dtype=np.int64)


class Fields:
    """Texts of varying length in one array: text ``i`` is ``data[starts[i]:][:lengths[i]]``."""

    def __init__(self, data: Bytes, starts: Ints, lengths: Ints) -> None:
        self.data, self.starts, self.lengths = data, starts, lengths

    @classmethod
    def from_texts(cls, texts: list[bytes]) -> "Fields":
        """The given texts, in order."""
        lengths = np.array([len(text) for text in texts], np.int64)
        data = np.frombuffer(b"".join(texts), np.uint8)
        return cls(data, np.cumsum(lengths) - lengths, lengths)

    def take(self, indices: npt.NDArray[np.integer]) -> "Fields":
        """The texts at ``indices``, bytes shared."""
        return Fields(self.data, self.starts[indices], self.lengths[indices])


def times_of(event_ns: Ints) -> Fields:
    """Timestamps as texts."""
    matrix, lengths = format_timestamps(event_ns)
    starts = np.arange(len(event_ns), dtype=np.int64) * matrix.shape[1]
    return Fields(matrix.ravel(), starts, lengths)


def decimals_of(units: Ints, decimals: Ints) -> Fields:
    """Texts of ``units / 10**decimals``, shape ``(n,)`` each, every decimal written.

    ``0 <= units / 10**decimals < 10**10``.
    """
    whole, part = np.divmod(units, _POWERS[decimals])
    part *= _POWERS[DECIMALS_MAX - decimals]
    matrix = np.empty((len(units), _VALUE_BYTES), np.uint8)
    matrix[:, _WHOLE_DIGITS] = ord(".")
    digits = max(1, int(np.searchsorted(_POWERS, whole.max(initial=0), "right")))
    for position in range(_WHOLE_DIGITS - 1, _WHOLE_DIGITS - 1 - digits, -1):
        whole, digit = np.divmod(whole, 10)
        matrix[:, position] = digit + 48
    finest = int(decimals.max(initial=0))
    part //= _POWERS[DECIMALS_MAX - finest]
    for position in range(_WHOLE_DIGITS + finest, _WHOLE_DIGITS, -1):
        part, digit = np.divmod(part, 10)
        matrix[:, position] = digit + 48
    whole_digits = np.searchsorted(_POWERS, units // _POWERS[decimals], "right").clip(1)
    starts = np.arange(len(units), dtype=np.int64) * _VALUE_BYTES + _WHOLE_DIGITS - whole_digits
    return Fields(matrix.ravel(), starts, whole_digits + np.where(decimals > 0, decimals + 1, 0))


def join(fields: list[Fields]) -> tuple[Bytes, Ints]:
    """Row ``i``: text ``i`` of each of ``fields``, each with its ``*``.

    Returns the bytes and the offsets of the rows in them, shape ``(n + 1,)``.
    """
    widths = np.column_stack([field.lengths + 1 for field in fields])
    ends = np.cumsum(widths).reshape(widths.shape)
    offsets = np.concatenate((np.zeros(1, np.int64), ends[:, -1]))
    out = np.empty(int(offsets[-1]), np.uint8)
    for column, field in enumerate(fields):
        starts = ends[:, column] - widths[:, column]
        copy_fields(out, starts, field.data, field.starts, field.lengths)
    out[ends - 1] = _MARK
    return out, offsets
