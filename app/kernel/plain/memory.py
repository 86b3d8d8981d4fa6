"""The bytes of shared memory: their words, seals, fences and futexes.

Offsets are those of the diagrams in ``app/kernel/layout.h`` and ``app/kernel/trace.h``, so a
process with this kernel and one with the compiled kernel share their segments.

Where that is sound: on x86-64, and on little-endian machines whose CPU keeps the order of stores as
x86 does (TSO).  A store or a load of an aligned item of a memoryview is one instruction, the
interpreter keeps the order of statements, and a CPU with TSO lets other cores see stores in their
order; what TSO does not order, a store and a later load, :meth:`Memory.fence` does, with the locked
instruction of a lock.  Other CPUs (arm64 among them) reorder stores, and Python has no fence for
that: there a process of this kernel may see a tick before its last words.  Its seal then does not
fit, so the process stops with :class:`Damaged`; it does not trade on it.

What Python cannot do is an atomic addition.  See :class:`Turns`.
"""

import contextlib
import ctypes
import fcntl
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Bytes = bytearray | memoryview
Words = npt.NDArray[np.uint64]

LAYOUT_VERSION: Final = 3
BOOK_MAGIC: Final = int.from_bytes(b"PRICBOOK", "little")
RING_MAGIC: Final = int.from_bytes(b"TICKRING", "little")
NO_END: Final = 2**64 - 1
MAX_READERS: Final = 63
SYMBOL_BYTES_MAX: Final = 32
BOOK_HEADER_BYTES: Final = 4096
BOOK_SLOT_BYTES: Final = 128
RING_HEADER_BYTES: Final = 8192
RECORD_BYTES: Final = 32
READER_NAME_BYTES: Final = 40

WORD: Final = 2**64 - 1
STAMP_LOW: Final = 2**48 - 1
SEAL_XOR: Final = 0x5BD1E9955BD1E995
SEAL_FACTOR_1: Final = 0x9E3779B97F4A7C15
SEAL_FACTOR_2: Final = 0xD6E8FEB86659FD93

RECORD_DTYPE: Final = np.dtype(
    [
        ("event_ns", "i8"),
        ("price", "f8"),
        ("seq", "u8"),
        ("seal", "u2"),
        ("symbol", "u2"),
        ("recv_us", "u4"),
    ]
)


class Damaged(Exception):
    """Shared memory holds what its writer did not write; the message says what and where."""


def seal_of(event_ns: int, price_bits: int, seq: int, rest: int) -> int:
    """16 bits that change with every single bit of the arguments."""
    first = ((event_ns ^ seq) & WORD) * SEAL_FACTOR_1
    second = ((price_bits ^ SEAL_XOR ^ rest) & WORD) * SEAL_FACTOR_2
    return ((first + second) & WORD) >> 48


def are_sealed(records: Words) -> npt.NDArray[np.bool_]:
    """Whether the seals of records, four words each, fit."""
    first = np.multiply(records[:, 0] ^ records[:, 2], np.uint64(SEAL_FACTOR_1), dtype=np.uint64)
    second = records[:, 1] ^ np.uint64(SEAL_XOR) ^ records[:, 3] >> np.uint64(16)
    total = first + np.multiply(second, np.uint64(SEAL_FACTOR_2), dtype=np.uint64)
    return np.asarray(total >> np.uint64(48) == records[:, 3] & np.uint64(0xFFFF))


def words_of(ticks: Any, *, writable: bool = False) -> Words:
    """The words of the records of a TICK_DTYPE array, four each.

    Raises:
        ValueError: not a whole number of ticks, not contiguous, or not writable.
    """
    raw = np.frombuffer(ticks, np.uint8)
    if raw.nbytes % RECORD_BYTES:
        raise ValueError(f"{raw.nbytes} bytes are not a whole number of ticks")
    if writable and not raw.flags.writeable:
        raise ValueError("buffer source array is read-only")
    return raw.view(np.uint64).reshape(-1, 4)


def records_of(ticks: Any, *, writable: bool = False) -> npt.NDArray[np.void]:
    """The records of a TICK_DTYPE array, by name; raises as :func:`words_of`."""
    return words_of(ticks, writable=writable).reshape(-1).view(RECORD_DTYPE)


def checked(array: Any, dtype: type[np.generic]) -> npt.NDArray[Any]:
    """An array of numbers, if it is what the compiled kernel takes.

    Raises:
        TypeError: no array.
        ValueError: one of another type or shape, or not contiguous.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"an array is required, not {type(array).__name__}")
    if array.dtype != dtype or array.ndim != 1:
        raise ValueError(
            f"expected one dimension of {dtype.__name__}, got {array.ndim} of {array.dtype}"
        )
    if not array.flags.c_contiguous:
        raise ValueError("ndarray is not C-contiguous")
    return array


class Memory:
    """A segment's bytes, as items of each size.

    Index of an item: its offset divided by its size.
    """

    __slots__ = ("_lock", "bytes", "doubles", "halves", "readonly", "signed", "size", "words")

    def __init__(self, segment: Bytes, *, writable: bool = False) -> None:
        """``writable``: BufferError if it is mapped for reading only."""
        view = memoryview(segment).cast("B")
        self.bytes, self.size, self.readonly = view, len(view), view.readonly
        if writable and self.readonly:
            raise BufferError("Object is not writable.")
        whole = view[: self.size // 8 * 8]
        self.words, self.signed, self.doubles = whole.cast("Q"), whole.cast("q"), whole.cast("d")
        self.halves = view[: self.size // 4 * 4].cast("I")
        self._lock = threading.Lock()

    def fence(self) -> None:
        """Other cores see the stores before it before it goes on to the next load (x86)."""
        with self._lock:
            pass


_FUTEX_NUMBERS: Final = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221}
_FUTEX_NUMBER: Final = (
    _FUTEX_NUMBERS.get(os.uname().machine) if ctypes.sizeof(ctypes.c_void_p) == 8 else None
)
_FUTEX_WAIT, _FUTEX_WAKE, _INT_MAX = 0, 1, 2**31 - 1
_POLL_S: Final = 0.001
_libc: Final = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Futex:
    """A word that processes sleep on, and beside it the one that says whether any does."""

    __slots__ = ("_memory", "_waiting", "_word", "_word_at")

    def __init__(self, memory: Memory, offset: int) -> None:
        self._memory, self._word, self._waiting = memory, offset // 4, offset // 4 + 1
        self._word_at = ctypes.byref(ctypes.c_uint32.from_buffer(memory.bytes, offset))

    def announce(self) -> int:
        """About to sleep: returns what :meth:`wait` takes; check the condition in between."""
        seen = self._memory.halves[self._word]
        self._memory.halves[self._waiting] = 1
        self._memory.fence()
        return seen

    def wait(self, seen: int, timeout_ns: int) -> None:
        """Sleep until it is woken or has changed, at most ``timeout_ns``."""
        if _FUTEX_NUMBER is None:
            time.sleep(min(timeout_ns / 1e9, _POLL_S))
            return
        limit = _Timespec(*divmod(timeout_ns, 10**9))
        _libc.syscall(
            _FUTEX_NUMBER, self._word_at, _FUTEX_WAIT, ctypes.c_uint32(seen), ctypes.byref(limit),
            None, 0,
        )  # fmt: skip

    def wake(self) -> None:
        """Wake all who wait, if anybody does.

        The word's addition is not atomic.  If several processes wake at once, one of two changes
        may be lost, and with it, if the sleeper is just between its check and its sleep, a wake-up:
        it then sleeps until its timeout.
        """
        self._memory.fence()
        halves = self._memory.halves
        if not halves[self._waiting]:
            return
        halves[self._waiting] = 0
        halves[self._word] = (halves[self._word] + 1) & 0xFFFFFFFF
        if _FUTEX_NUMBER is not None:
            _libc.syscall(_FUTEX_NUMBER, self._word_at, _FUTEX_WAKE, _INT_MAX, None, None, 0)


_FLOCK: Final = struct.Struct("hhqqi4x")
_TURN_BYTE: Final = 1 << 40
"""Locked in the segment's file, far behind its end and the bytes that segments lock."""


class Turns:
    """Lets one process at a time take a number from a segment.

    The compiled kernel adds to such a number with an atomic instruction, which Python has not, and
    does not ask for a turn: where both write, two may take the same number.  One of the two records
    is then lost, or has a seal that does not fit.  That can only happen to records of the trace.
    """

    def __init__(self, segment: Bytes) -> None:
        self._thread = threading.Lock()
        self._file = _file_of(memoryview(segment))

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Nobody else is inside; a process that dies inside leaves it."""
        with self._thread:
            if self._file is None:
                yield
                return
            self._lock(fcntl.F_WRLCK)
            try:
                yield
            finally:
                self._lock(fcntl.F_UNLCK)

    def _lock(self, kind: int) -> None:
        request = _FLOCK.pack(kind, os.SEEK_SET, _TURN_BYTE, 1, 0)
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLKW, request)


def _file_of(view: memoryview) -> Any:
    """The file that the bytes are mapped from, open; None: memory of this process alone."""
    at = ctypes.addressof(ctypes.c_char.from_buffer(view))
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, _, _, _, inode, *path = line.split(maxsplit=5)
        first, _, end = place.partition("-")
        if int(first, 16) <= at < int(end, 16):
            if not path or not path[0].startswith("/"):
                return None
            with contextlib.suppress(OSError):
                file = open(path[0], "r+b", buffering=0)  # noqa: SIM115
                if os.fstat(file.fileno()).st_ino == int(inode):
                    return file
                file.close()
    return None


def make_read_only(segment: Bytes, start: int) -> None:
    """Let the operating system refuse writes to the mapped memory from ``start`` on.

    Does nothing where pages are so large that ``start`` is in the middle of one.

    Raises:
        OSError: it is not mapped memory.
    """
    view = memoryview(segment)
    if not 0 <= start < len(view):
        raise IndexError(start)
    at = ctypes.addressof(ctypes.c_char.from_buffer(view, start))
    if at % mmap.PAGESIZE == 0:
        address, length = ctypes.c_void_p(at), ctypes.c_size_t(len(view) - start)
        if _libc.mprotect(address, length, mmap.PROT_READ) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
