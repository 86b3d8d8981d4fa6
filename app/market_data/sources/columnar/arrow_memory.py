"""Columns of an Arrow record batch as NumPy arrays, without a copy.

Any Arrow library exports its arrays as the two C structs of the Arrow C data interface
(https://arrow.apache.org/docs/format/CDataInterface.html).  Reading them takes no conversion that
the library may lack: nulls, decimals and dictionaries come as they are.
"""

import ctypes
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from app.market_data.ragged import Bytes, Ints, Mask

PADDING: Final = 32
"""Bytes after the texts of a column, so that a text may be read past its end."""


class _Schema(ctypes.Structure):
    pass


_Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_void_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(_Schema))),
    ("dictionary", ctypes.POINTER(_Schema)),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]


class _Array(ctypes.Structure):
    pass


_Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Array))),
    ("dictionary", ctypes.POINTER(_Array)),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]

_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.restype = ctypes.c_void_p
_get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


@dataclass(frozen=True, slots=True)
class Texts:
    """Text ``i`` is ``data[starts[i]:][:lengths[i]]``; ``data`` is padded."""

    data: Bytes
    starts: Ints
    lengths: Ints

    def text(self, row: int) -> bytes:
        """One text."""
        start = int(self.starts[row])
        return self.data[start : start + int(self.lengths[row])].tobytes()


class ArrowColumn:
    """One column.  ``format``: its type, in the letters of the C data interface.

    It keeps the memory alive that it shows.
    """

    def __init__(self, schema: Any, array: Any, owner: object) -> None:
        self._schema, self._array, self._owner = schema, array, owner
        self.format: str = schema.format.decode()
        self.length: int = array.length

    @classmethod
    def of(cls, exported: Any) -> "ArrowColumn":
        """The column of an array with ``__arrow_c_array__``."""
        owner = exported.__arrow_c_array__()
        schema = _Schema.from_address(_get_pointer(owner[0], b"arrow_schema"))
        array = _Array.from_address(_get_pointer(owner[1], b"arrow_array"))
        return cls(schema, array, owner)

    @property
    def dictionary(self) -> "ArrowColumn | None":
        """The values of a dictionary column, whose own numbers are indices of them."""
        if not self._schema.dictionary:
            return None
        schema, array = self._schema.dictionary.contents, self._array.dictionary.contents
        return ArrowColumn(schema, array, self._owner)

    def _buffer(self, index: int, dtype: npt.DTypeLike, first: int, count: int) -> Any:
        kind = np.dtype(dtype)
        address = self._array.buffers[index]
        if not count or not address:
            return np.zeros(count, kind)
        size_bytes = count * kind.itemsize
        memory = (ctypes.c_char * size_bytes).from_address(address + first * kind.itemsize)
        return np.frombuffer(memoryview(memory).cast("B"), kind)

    def valid(self) -> Mask:
        """Which rows are not null, shape ``(n,)``."""
        if self.format == "n":
            return np.zeros(self.length, np.bool_)
        if not self._array.null_count or not self._array.buffers[0]:
            return np.ones(self.length, np.bool_)
        first, skip = divmod(self._array.offset, 8)
        bits = self._buffer(0, np.uint8, first, (self.length + skip + 7) // 8)
        found = np.unpackbits(bits, bitorder="little")[skip : skip + self.length]
        return found.astype(np.bool_)

    def numbers(self, dtype: npt.DTypeLike) -> Any:
        """The values of a column of fixed width; undefined where a row is null."""
        return self._buffer(1, dtype, self._array.offset, self.length)

    def texts(self, wide: bool) -> Texts:
        """The texts; ``wide``: the column has 64-bit offsets."""
        kind = np.int64 if wide else np.int32
        edges = self._buffer(1, kind, self._array.offset, self.length + 1).astype(np.int64)
        first, end = int(edges[0]), int(edges[-1])
        data = np.zeros(end - first + PADDING, np.uint8)
        data[: end - first] = self._buffer(2, np.uint8, first, end - first)
        return Texts(data, edges[:-1] - first, np.diff(edges))
