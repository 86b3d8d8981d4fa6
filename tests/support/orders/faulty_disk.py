"""A disk that fails on demand: an SQLite VFS below the real order store."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import apsw

_numbers = itertools.count()


class FaultyDisk(apsw.VFS):
    """Passes everything through; while ``failing`` is set, the ``operations`` raise it.

    ``after`` lets this many pass first, which puts the fault into the middle of a commit.
    """

    def __init__(self) -> None:
        self.vfs_name = f"faulty-{next(_numbers)}"
        self.failing: type[apsw.Error] | None = None
        self.operations = ("write",)
        self.after = 0
        self.faults = 0
        super().__init__(self.vfs_name, base="")

    def xOpen(self, name: object, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        """Open a file of this disk."""
        return _File(self, name, flags)

    def fail_if_due(self, operation: str) -> None:
        """Raise the fault if ``operation`` has to fail now."""
        if self.failing is None or operation not in self.operations:
            return
        if self.after:
            self.after -= 1
            return
        self.faults += 1
        raise self.failing("on purpose")


class _File(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, name: object, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("", name, flags)  # type: ignore[arg-type]

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.fail_if_due("write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.fail_if_due("sync")
        super().xSync(flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._disk.fail_if_due("read")
        return super().xRead(amount, offset)


@contextmanager
def faulty_disk() -> Iterator[FaultyDisk]:
    """Stores opened within the block are on this disk."""
    disk = FaultyDisk()
    real = apsw.Connection

    def connect(path: str | Path, **keywords: object) -> apsw.Connection:
        return real(str(path), vfs=disk.vfs_name, **keywords)  # type: ignore[arg-type]

    with mock.patch("app.order_manager.store.store.apsw.Connection", connect):
        yield disk
