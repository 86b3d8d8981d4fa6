"""Fields of varying length in byte arrays, copied many at a time with NumPy."""

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def copy_fields(out: Bytes, out_starts: Ints, source: Bytes, starts: Ints, lengths: Ints) -> None:
    """Copy field ``i``, ``source[starts[i]:][:lengths[i]]``, to ``out[out_starts[i]:]``.

    The three integer arrays have the shape ``(fields,)``.  Temporaries take 24 bytes per byte
    copied, so callers work in chunks.
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    within = np.arange(total) - np.repeat(ends - lengths, lengths)
    out[np.repeat(out_starts, lengths) + within] = source[np.repeat(starts, lengths) + within]


def join_fields(source: Bytes, starts: Ints, lengths: Ints, delimiter: int) -> tuple[Bytes, Ints]:
    """Concatenate rows of fields, each field followed by the byte ``delimiter``.

    ``starts`` and ``lengths`` have the shape ``(rows, fields)``.  Returns the bytes and the end of
    each row in them, shape ``(rows,)``.
    """
    ends = np.cumsum(lengths + 1)
    out = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    copy_fields(out, ends - 1 - lengths.ravel(), source, starts.ravel(), lengths.ravel())
    out[ends - 1] = delimiter
    return out, ends.reshape(lengths.shape)[:, -1]


def pick_rows(
    source: bytes | bytearray | memoryview | Bytes, offsets: Ints, rows: Ints
) -> tuple[Bytes, Ints]:
    """The rows ``source[offsets[r]:offsets[r + 1]]`` for ``r`` in ``rows``, joined.

    Returns the bytes and their offsets, shape ``(len(rows) + 1,)``.
    """
    view = np.frombuffer(source, np.uint8)
    lengths = (offsets[1:] - offsets[:-1])[rows]
    new = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=new[1:])
    out = np.empty(int(new[-1]), np.uint8)
    for first in range(0, len(rows), PICK_ROWS):
        chunk = slice(first, first + PICK_ROWS)
        copy_fields(out, new[:-1][chunk], view, offsets[:-1][rows[chunk]], lengths[chunk])
    return out, new


PICK_ROWS = 32768
"""Rows copied at a time, to bound the temporaries."""
