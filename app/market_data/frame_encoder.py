"""Encodes many ``timestamp*symbol*value*`` frames at once."""

from typing import Final

import numpy as np
import numpy.typing as npt

from app.market_data.ragged import Bytes, Ints, copy_fields
from app.model.money import DECIMALS_MAX
from app.model.timestamps import DAY_S, NS_PER_S
from app.model.wire.frames import DELIMITER

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
        """The texts at ``indices``; the bytes are shared, not copied."""
        return Fields(self.data, self.starts[indices], self.lengths[indices])


def times_of(event_ns: Ints) -> Fields:
    """Timestamps as texts in wire form."""
    matrix, lengths = format_timestamps(event_ns)
    starts = np.arange(len(event_ns), dtype=np.int64) * matrix.shape[1]
    return Fields(matrix.ravel(), starts, lengths)


def decimals_of(units: Ints, decimals: Ints) -> Fields:
    """Texts of ``units / 10**decimals``, both of shape ``(n,)``, with all decimals.

    ``0 <= units / 10**decimals < 10**10``.
    """
    whole, fraction = np.divmod(units, _POWERS[decimals])
    fraction *= _POWERS[DECIMALS_MAX - decimals]
    matrix = np.empty((len(units), _VALUE_BYTES), np.uint8)
    matrix[:, _WHOLE_DIGITS] = ord(".")
    digits = max(1, int(np.searchsorted(_POWERS, whole.max(initial=0), "right")))
    for position in range(_WHOLE_DIGITS - 1, _WHOLE_DIGITS - 1 - digits, -1):
        whole, digit = np.divmod(whole, 10)
        matrix[:, position] = digit + 48
    finest = int(decimals.max(initial=0))
    fraction //= _POWERS[DECIMALS_MAX - finest]
    for position in range(_WHOLE_DIGITS + finest, _WHOLE_DIGITS, -1):
        fraction, digit = np.divmod(fraction, 10)
        matrix[:, position] = digit + 48
    whole_digits = np.searchsorted(_POWERS, units // _POWERS[decimals], "right").clip(1)
    starts = np.arange(len(units), dtype=np.int64) * _VALUE_BYTES + _WHOLE_DIGITS - whole_digits
    return Fields(matrix.ravel(), starts, whole_digits + np.where(decimals > 0, decimals + 1, 0))


def concatenate(fields: list[Fields]) -> tuple[Bytes, Ints]:
    """Join fields into rows: row ``i`` is text ``i`` of each of ``fields``, each followed by ``*``.

    Returns the bytes and the offsets of the rows in them, shape ``(n + 1,)``.
    """
    widths = np.column_stack([field.lengths + 1 for field in fields])
    ends = np.cumsum(widths).reshape(widths.shape)
    offsets = np.concatenate((np.zeros(1, np.int64), ends[:, -1]))
    out = np.empty(int(offsets[-1]), np.uint8)
    for column, field in enumerate(fields):
        starts = ends[:, column] - widths[:, column]
        copy_fields(out, starts, field.data, field.starts, field.lengths)
    out[ends - 1] = DELIMITER[0]
    return out, offsets


TEXT_BYTES_MAX: Final = 29
"""Longest text from :func:`format_timestamp`."""


def format_timestamps(event_ns: Ints) -> tuple[Bytes, Ints]:
    """Texts as from :func:`format_timestamp`: a matrix ``(n, 29)`` and the lengths ``(n,)``.

    The bytes of a row after its length are undefined.
    """
    seconds, fraction = np.divmod(event_ns, NS_PER_S)
    days, second = np.divmod(seconds, DAY_S)
    out = np.empty((len(event_ns), TEXT_BYTES_MAX), np.uint8)
    first = int(days.min()) if len(days) else 0
    span = int(days.max()) - first + 1 if len(days) else 0
    if span <= len(days) + 1:
        names = np.arange(first, first + span).astype("M8[D]").astype("S10")
        out[:, :10] = names.view(np.uint8).reshape(-1, 10)[days - first]
    else:
        out[:, :10] = days.astype("M8[D]").astype("S10").view(np.uint8).reshape(-1, 10)
    out[:, 10] = ord(" ")
    out[:, [13, 16]] = ord(":")
    small = second.astype(np.int32)
    for position, value in ((11, small // 3600), (14, small // 60 % 60), (17, small % 60)):
        out[:, position] = value // 10 + 48
        out[:, position + 1] = value % 10 + 48
    lengths = np.full(len(event_ns), 19, np.int64)
    if fraction.any():
        out[:, 19] = ord(".")
        rest = fraction.astype(np.int32)
        for position in range(28, 19, -1):
            rest, digit = np.divmod(rest, 10)
            out[:, position] = digit + 48
        lengths[fraction != 0] = 23
        lengths[fraction % 1_000_000 != 0] = 26
        lengths[fraction % 1_000 != 0] = 29
    return out, lengths
