"""Where data that does not fit into memory goes."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MEMORY_BYTES_MAX: Final = 64 << 20
FREE_BYTES_MIN: Final = 256 << 20
"""Left free on the disk, besides what the order store needs."""

_IN_MEMORY: Final = ("tmpfs", "ramfs")
_MEND: Final = (
    "set DATA_SPILL_DIR to a folder on a disk with room, or DATA_MEMORY_BYTES_MAX to hold more "
    "in memory"
)


class NoRoom(Exception):
    """Data does not fit into memory, and there is no room for it on a disk."""


@dataclass(frozen=True, slots=True)
class Storage:
    """How much of a table is held in memory, and where the rest goes.

    ``folder``: where, if given; else the first of ``usual`` and the folder for temporary files
    that is on a disk with room.  ``free_bytes_min``: what has to stay free there.
    """

    memory_bytes_max: int = MEMORY_BYTES_MAX
    folder: str = ""
    usual: tuple[str, ...] = ()
    free_bytes_min: int = FREE_BYTES_MIN

    def place(self) -> Path:
        """The folder for a file.

        Raises:
            NoRoom: there is none; the message says what was tried and which settings help.
        """
        tried = []
        for name in (self.folder,) if self.folder else (*self.usual, tempfile.gettempdir()):
            if not name:
                continue
            folder = Path(name)
            problem = self._problem(folder)
            if not problem:
                return folder
            tried.append(f"{folder}: {problem}")
        raise NoRoom(
            f"the data takes more than DATA_MEMORY_BYTES_MAX={self.memory_bytes_max} and there is "
            f"no place for it on a disk ({'; '.join(tried)}): {_MEND}"
        )

    def _problem(self, folder: Path) -> str:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                return "cannot be written"
            free_bytes = free_bytes_of(folder)
        except OSError as error:
            return error.strerror or str(error)
        if not self.folder and is_memory(folder):
            return "is memory, not a disk"
        if free_bytes < self.free_bytes_min:
            return f"only {free_bytes >> 20} MB are free"
        return ""

    def check_room(self, folder: Path, size_bytes: int, missing_bytes: int = 0) -> None:
        """The data has so many bytes, of which so many are not written yet.

        Raises:
            NoRoom: too little stays free.
        """
        free_bytes = free_bytes_of(folder)
        if free_bytes < self.free_bytes_min + missing_bytes:
            raise self.full(folder, size_bytes, free_bytes)

    def full(self, folder: Path, size_bytes: int, free_bytes: int) -> NoRoom:
        """The error for a disk without room."""
        return NoRoom(
            f"{folder}: no room for {size_bytes >> 20} MB of data: {free_bytes >> 20} MB are free, "
            f"of which {self.free_bytes_min >> 20} MB are kept: {_MEND}"
        )


IN_MEMORY: Final = Storage(memory_bytes_max=1 << 62)


def free_bytes_of(folder: Path) -> int:
    """What this user may still write there."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def is_memory(folder: Path) -> bool:
    """Whether files there are held in memory; False where /proc does not tell."""
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return False
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        if before.split()[2] == wanted:
            return after.split()[0] in _IN_MEMORY
    return False
