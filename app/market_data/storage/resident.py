"""Keeps the resident part of mapped files small, however much of them is read.

A page of a file that was read stays in the process until somebody drops it.  Dropping costs nothing
but a fault at the next use: the page itself stays in the kernel's cache while memory is free.
"""

import mmap
from pathlib import Path
from typing import Final
from weakref import WeakSet

LOOK_EVERY_BYTES: Final = 16 << 20
"""What is read between two looks at the resident size."""
RESIDENT_BYTES_MAX: Final = 64 << 20
"""Pages of files that may be resident, besides those of programs and libraries."""

_STATM: Final = Path("/proc/self/statm")


class Resident:
    """The mapped files of this process."""

    def __init__(self) -> None:
        self._maps: WeakSet[mmap.mmap] = WeakSet()
        self._unlooked_bytes = 0
        self._base_bytes = 0
        self.drops = 0

    def map(self, descriptor: int) -> mmap.mmap:
        """Map a whole file that is not empty, to be read."""
        if not self._maps:
            self._base_bytes = _file_bytes()
        memory = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        self._maps.add(memory)
        return memory

    def passed(self, size_bytes: int) -> None:
        """About so many bytes of mapped files were read; call it often, it is cheap."""
        self._unlooked_bytes += size_bytes
        if self._unlooked_bytes >= LOOK_EVERY_BYTES:
            self.look()

    def look(self) -> None:
        """Drop the pages if too many are resident."""
        self._unlooked_bytes = 0
        if self._maps and _file_bytes() - self._base_bytes > RESIDENT_BYTES_MAX:
            for memory in self._maps:
                memory.madvise(mmap.MADV_DONTNEED)
            self._base_bytes = _file_bytes()
            self.drops += 1


def _file_bytes() -> int:
    """Resident bytes of files and shared memory; 0 where /proc does not tell."""
    try:
        return int(_STATM.read_bytes().split()[2]) * mmap.PAGESIZE
    except OSError:
        return 0


RESIDENT: Final = Resident()
"""Of this process."""
