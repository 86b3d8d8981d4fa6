"""Columns that grow: in memory up to a limit, together in unlinked files beyond it.

Such a file has no name, so it goes with the process, however that ends.
"""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from app.market_data.storage.place import Storage, free_bytes_of
from app.market_data.storage.resident import RESIDENT

CHECK_EVERY_BYTES: Final = 16 << 20
"""What is written between two looks at the room that is left."""
FULL: Final = (ENOSPC, EDQUOT)
REWRITE_BYTES: Final = 1 << 20

Array = npt.NDArray[Any]


class Table:
    """The columns of one table.  All are in memory, or all are in files."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._columns: list[Column] = []
        self._folder: Path | None = None
        self._unchecked_bytes = 0
        self.size_bytes = 0

    @property
    def on_disk(self) -> bool:
        """Whether it has outgrown memory."""
        return self._folder is not None

    def column(self, dtype: npt.DTypeLike) -> "Column":
        """A new column, empty."""
        column = Column(self, np.dtype(dtype))
        self._columns.append(column)
        if self._folder is not None:
            column.move(self._folder)
        return column

    def grown(self, size_bytes: int) -> None:
        """A column has so many bytes more.

        Raises:
            NoRoom: it is too large for memory, and no disk has room.
        """
        self.size_bytes += size_bytes
        if self._folder is None:
            if self.size_bytes > self._storage.memory_bytes_max:
                self._folder = self._storage.place()
                with self.writing():
                    for column in self._columns:
                        column.move(self._folder)
            return
        self._unchecked_bytes += size_bytes
        if self._unchecked_bytes >= CHECK_EVERY_BYTES:
            self._unchecked_bytes = 0
            self._storage.check_room(self._folder, self.size_bytes)

    def writing(self) -> "_Writing":
        """Turns the error of a full disk into one that says what helps."""
        return _Writing(self)

    def full(self) -> Exception:
        """The error for a full disk."""
        assert self._folder is not None
        free_bytes = 0
        with suppress(OSError):
            free_bytes = free_bytes_of(self._folder)
        return self._storage.full(self._folder, self.size_bytes, free_bytes)


class _Writing:
    def __init__(self, table: Table) -> None:
        self._table = table

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError) and error.errno in FULL:
            raise self._table.full() from None


class Column:
    """Values of one type; :meth:`array` ends it."""

    def __init__(self, table: Table, dtype: "np.dtype[Any]") -> None:
        self._table, self._dtype = table, dtype
        self._held = bytearray()
        self._file: Any = None
        self.size_bytes = 0

    def append(self, values: Array) -> None:
        """Add values, converted to the column's type.

        Raises:
            NoRoom: as :meth:`Table.grown`.
        """
        if not len(values):
            return
        data = np.ascontiguousarray(values, self._dtype).data.cast("B")
        if self._file is None:
            self._held += data
        else:
            with self._table.writing():
                write(self._file.fileno(), data, self.size_bytes)
        self.size_bytes += len(data)
        self._table.grown(len(data))

    def move(self, folder: Path) -> None:
        """Go on in a file."""
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115, array() ends it
        write(self._file.fileno(), memoryview(self._held), 0)
        self._held = bytearray()

    def rewrite(self, change: Callable[[Array], Array]) -> None:
        """Replace the values piece by piece, each by one of the column's type."""
        step = REWRITE_BYTES // self._dtype.itemsize * self._dtype.itemsize
        for at in range(0, self.size_bytes, step):
            if self._file is None:
                data: Any = memoryview(self._held)[at : at + step]
            else:
                data = os.pread(self._file.fileno(), step, at)
            new = np.ascontiguousarray(change(np.frombuffer(data, self._dtype)), self._dtype)
            if self._file is None:
                data[:] = new.data.cast("B")
            else:
                with self._table.writing():
                    write(self._file.fileno(), new, at)

    def array(self) -> Array:
        """All values, shape ``(n,)``; those in a file cannot be written."""
        if self._file is None or not self.size_bytes:
            return np.frombuffer(self._held, self._dtype)
        with self._file as file:
            return np.frombuffer(RESIDENT.map(file.fileno()), self._dtype)


def write(descriptor: int, values: Any, at: int) -> None:
    """Write all of an array or a buffer at a position; one call of the system may write less."""
    data = memoryview(values).cast("B") if len(values) else memoryview(b"")
    while data:
        done = os.pwrite(descriptor, data, at)
        data, at = data[done:], at + done
