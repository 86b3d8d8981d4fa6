"""POSIX shared memory segments: created atomically, removed only on request.

A segment is a file in ``/dev/shm``, which is what ``shm_open`` opens on Linux.  We open it
ourselves instead of using :mod:`multiprocessing.shared_memory`, for two reasons.  We need its
descriptor (for locks), its mode, and its inode (to detect that the name now refers to another
segment).  And before Python 3.13 the standard class registers every reader with a resource tracker
that unlinks the segment when that reader exits, while others still use it (CPython issue 82300).
"""

import contextlib
import fcntl
import mmap
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

SHM_DIRECTORY = Path("/dev/shm")
SEGMENT_MODE = 0o660

WRITER_LOCK_BYTE = 0
"""Price book and tick ring: the process that holds the lock on this byte is the writer."""

_MAP_FIXED = 0x10  # mmap(2); the module has no name for it

# struct flock: l_type, l_whence, l_start, l_len, l_pid (0 for open-file-description locks)
_FLOCK = struct.Struct("hhqqi4x")


class SegmentError(Exception):
    """A segment cannot be created, attached or locked; the message names it and the remedy."""


class SegmentMissing(SegmentError):
    """No segment of that name exists (yet)."""


class SegmentDamaged(SegmentError):
    """A segment holds what its writer did not write, for example after a bit has flipped."""


class SegmentForeign(SegmentError):
    """Another program's segment has that name; it is left unchanged."""


class Segment:
    """One mapped segment.  Use :meth:`create` or :meth:`attach`."""

    def __init__(self, name: str, descriptor: int, size: int, *, writable: bool = True) -> None:
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self.name = name
        self._descriptor = descriptor
        self._inode = os.fstat(descriptor).st_ino
        self._map: mmap.mmap | None = mmap.mmap(descriptor, size, prot=protection)
        self.buf: memoryview = memoryview(self._map)

    @property
    def size(self) -> int:
        """Mapped length in bytes."""
        return len(self.buf)

    @classmethod
    def create(cls, name: str, image: bytes | bytearray, size: int = 0) -> Self:
        """Create ``name`` with ``image`` as its first bytes and zeros up to ``size``.

        The segment gets its name only when it is complete, so a reader never maps a half-written
        header.  If two processes create the same name, ``link`` succeeds for one of them.

        Raises:
            FileExistsError: the segment exists.
            SegmentError: the shared memory file system is full or not writable.
        """
        size = max(size, len(image))
        descriptor = -1
        try:
            # Unnamed until complete: a process that dies before that leaves no file.
            descriptor = os.open(SHM_DIRECTORY, os.O_RDWR | os.O_TMPFILE, SEGMENT_MODE)
            os.fchmod(descriptor, SEGMENT_MODE)
            # Allocate now: a full tmpfs must fail here with a message, not later with SIGBUS.
            os.posix_fallocate(descriptor, 0, size)
            os.pwrite(descriptor, image, 0)
            _link(descriptor, SHM_DIRECTORY / name)
        except FileExistsError:
            os.close(descriptor)
            raise
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            raise SegmentError(
                f"shared memory segment {name} of {size} bytes: {error.strerror}; "
                f"free space in {SHM_DIRECTORY} or raise shm_size"
            ) from error
        return cls(name, descriptor, size)

    @classmethod
    def attach(cls, name: str, *, writable: bool = True) -> Self:
        """Map an existing segment; not ``writable``: the kernel refuses every write and lock.

        Raises:
            SegmentMissing: no segment of that name exists.
            SegmentForeign: the name is that of a folder, a link or the like.
            SegmentError: it belongs to another user, or is empty.
        """
        access = (os.O_RDWR if writable else os.O_RDONLY) | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            _require_file(name, os.lstat(SHM_DIRECTORY / name).st_mode)
            descriptor = os.open(SHM_DIRECTORY / name, access)
        except FileNotFoundError:
            raise SegmentMissing(f"shared memory segment {name} does not exist") from None
        except OSError as error:
            raise SegmentError(
                f"shared memory segment {name}: {error.strerror}; is it another user's? "
                "set another name in SHM_*"
            ) from error
        size = os.fstat(descriptor).st_size
        if size == 0:
            os.close(descriptor)
            raise SegmentError(f"shared memory segment {name} is empty; remove {name} and restart")
        return cls(name, descriptor, size, writable=writable)

    def is_current(self) -> bool:
        """Whether the name still refers to this segment: not removed, not replaced."""
        try:
            return os.stat(SHM_DIRECTORY / self.name).st_ino == self._inode
        except FileNotFoundError:
            return False

    def move_to(self, other: "Segment") -> None:
        """Map ``other``, of the same size, at this segment's address, and take over its locks.

        Every view of this segment, NumPy arrays included, then shows ``other``, which is closed.
        """
        # Imported here: only a process whose segment was removed needs it.
        import ctypes

        assert self._map is not None
        assert other.size == self.size
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        integer = ctypes.c_int
        libc.mmap.argtypes = (
            ctypes.c_void_p,
            ctypes.c_size_t,
            integer,
            integer,
            integer,
            ctypes.c_long,
        )
        at = ctypes.addressof(ctypes.c_char.from_buffer(self.buf))
        protection, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _MAP_FIXED
        found = libc.mmap(at, self.size, protection, flags, other._descriptor, 0)
        if found != at:
            raise SegmentError(f"{self.name}: {os.strerror(ctypes.get_errno())}; restart")
        # The locks belong to the open file, so they stay as long as one of its descriptors.
        os.dup2(other._descriptor, self._descriptor, inheritable=False)
        self._inode = other._inode
        other._unmap()

    def try_lock(self, byte: int) -> bool:
        """Try to take the exclusive lock on one byte; the kernel frees it when this process dies.

        Open-file-description locks work across containers, where a process id would be ambiguous,
        and end with a crash or a close.
        """
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, self._flock(fcntl.F_WRLCK, byte))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def unlock(self, byte: int) -> None:
        """Release the lock on ``byte``."""
        fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, self._flock(fcntl.F_UNLCK, byte))

    def is_locked(self, byte: int) -> bool:
        """Whether another holder has the lock on ``byte``, and so is alive."""
        answer = fcntl.fcntl(self._descriptor, fcntl.F_OFD_GETLK, self._flock(fcntl.F_WRLCK, byte))
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    @staticmethod
    def _flock(kind: int, byte: int, length: int = 1) -> bytes:
        return _FLOCK.pack(kind, os.SEEK_SET, byte, length, 0)

    def close(self) -> None:
        """Unmap and release every lock; the segment itself stays."""
        if self._map is None:
            return
        # mmap duplicated the descriptor, so closing ours would not free the locks.
        fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, self._flock(fcntl.F_UNLCK, 0, 0))
        self._unmap()

    def _unmap(self) -> None:
        assert self._map is not None
        # The mapping stays until the last view of it (a NumPy array, say) is released.
        with contextlib.suppress(BufferError):
            self.buf.release()
            self._map.close()
        self._map = None
        os.close(self._descriptor)

    def unlink(self) -> None:
        """Remove the name, unless it now refers to another segment."""
        if self.is_current():
            (SHM_DIRECTORY / self.name).unlink(missing_ok=True)


def _require_file(name: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "special file"
        raise SegmentForeign(
            f"shared memory segment {name}: {SHM_DIRECTORY / name} is a {kind}, left alone; "
            "remove it, or set another name in SHM_*"
        )


def _link(descriptor: int, path: Path) -> None:
    """Name an unnamed file (open(2), O_TMPFILE).

    Raises:
        FileExistsError: the name is taken.
    """
    folder = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY)
    try:
        # os.link follows the symbolic link in /proc only when it is given relative to a folder.
        os.link(str(descriptor), path, src_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)


def create_or_attach(name: str, image: bytes | bytearray, size: int = 0) -> tuple[Segment, bool]:
    """The segment ``name`` and whether this call created it; safe if two processes race."""
    while True:
        try:
            return Segment.attach(name), False
        except SegmentMissing:
            with contextlib.suppress(FileExistsError):
                return Segment.create(name, image, size), True


def open_for_writing(
    name: str,
    kind: str,
    image: bytes | bytearray,
    size: int,
    is_reusable: Callable[[Segment], bool],
) -> tuple[Segment, bool]:
    """The segment ``name``, locked for writing, and whether a dead writer left it.

    A dead writer's segment is replaced if ``is_reusable`` returns False or raises SegmentError.

    Raises:
        SegmentForeign: ``is_reusable`` says that another program's segment has this name.
        SegmentError: another writer is alive, or the segment cannot be created.
    """
    while True:
        segment, created = create_or_attach(name, image, size)
        if not segment.try_lock(WRITER_LOCK_BYTE):
            segment.close()
            raise SegmentError(f"{kind} {name}: another writer is alive; stop it first")
        try:
            if created or (segment.is_current() and is_reusable(segment)):
                return segment, not created
        except SegmentForeign:
            segment.close()
            raise
        except SegmentError:
            pass  # left by another version, and its writer is dead: replace it
        segment.unlink()
        segment.close()


class SegmentHandle:
    """Base of the classes that wrap one segment: size, life cycle, ``with``."""

    _segment: Segment

    @property
    def name(self) -> str:
        """The segment's name in ``/dev/shm``."""
        return self._segment.name

    @property
    def nbytes(self) -> int:
        """Size in shared memory, bytes."""
        return self._segment.size

    @property
    def buffer(self) -> memoryview:
        """The mapped segment, for the kernel."""
        return self._segment.buf

    def is_current(self) -> bool:
        """Whether the name still refers to this segment."""
        return self._segment.is_current()

    def close(self) -> None:
        """Unmap and free this object's locks; the segment stays."""
        self._segment.close()

    def unlink(self) -> None:
        """Remove the segment's name; processes that have it mapped keep it."""
        self._segment.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
