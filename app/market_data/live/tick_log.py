"""The recording of a live feed: a file to which ticks are appended before they are sent.

A header (the symbols, a random id) is followed by records of 64 bytes, each with a checksum that
covers its number.  A write that a kill has cut short leaves a part of a record, or none; it is cut
off when the file is opened to go on.  Readers may follow the file while it grows.
"""

import fcntl
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Final, Self

import numpy as np

from app.market_data.live.records import TICK, Records, checksums, new_recording_id
from app.market_data.sources.errors import DataError, reading
from app.model.symbols import symbol_problem

MAGIC: Final = b"TRDLIVE1"
SUFFIX: Final = ".ticks"
_HEAD: Final = struct.Struct("<8sII")
_HEADER_BYTES_MAX: Final = 1 << 20
_TAIL_TICKS: Final = 1 << 14
"""Checked when a file is opened to go on: more than one write."""


class RecordingFull(OSError):
    """The ticks could not be written; none of them is in the file."""


class TickLog:
    """The open file; ``symbols``, ``recording_id`` and ``source`` are those of its header."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor
        head = os.pread(descriptor, _HEAD.size, 0)
        magic, size, checksum = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", 0, 0)
        text = os.pread(descriptor, min(size, _HEADER_BYTES_MAX), _HEAD.size)
        if magic != MAGIC or len(text) != size or zlib.crc32(text) != checksum:
            raise DataError(f"{path}: not a recording of a live feed, or its header is damaged")
        try:
            header = json.loads(text)
            self.symbols = [str(symbol) for symbol in header["symbols"]]
            self.recording_id = str(header["id"])
            self.source = str(header["source"])
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{path}: the header of this recording is of another build") from None
        if not self.symbols or any(symbol_problem(name.encode()) for name in self.symbols):
            raise DataError(f"{path}: the header of this recording has an unusable symbol")
        self._begin = _HEAD.size + size
        self.count = 0
        self.refresh()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Open a recording to read it, also while it grows.

        Raises:
            DataError: it is none, or cannot be read.
        """
        with reading(path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return cls(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def append(cls, path: Path, symbols: list[str], source: str) -> tuple[Self, int]:
        """Open a recording to go on, or begin one; also the bytes cut off at its end.

        Raises:
            DataError: it is of other symbols, damaged, in use, or cannot be written.
        """
        with reading(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise DataError(
                f"{path}: another process records there: set another LIVE_RECORD or RUN_ID"
            ) from None
        try:
            if not _has_begun(descriptor):
                with reading(path):
                    _begin(descriptor, symbols, source)
            log = cls(path, descriptor)
            if log.symbols != symbols:
                raise DataError(
                    f"{path}: recorded with LIVE_SYMBOLS={','.join(log.symbols)}: set these, or "
                    "another LIVE_RECORD or RUN_ID for a new recording"
                )
            return log, log._cut_tail()
        except BaseException:
            os.close(descriptor)
            raise

    def refresh(self) -> int:
        """Look how many ticks there are now; returns their number."""
        self.count = max(0, os.fstat(self._descriptor).st_size - self._begin) // TICK.itemsize
        return self.count

    def ticks(self, first: int, end: int) -> Records:
        """The ticks ``first`` to ``end - 1``, at most ``count``.

        Raises:
            DataError: one of them is damaged.
        """
        found = self._ticks(first, end)
        good = found["checksum"] == checksums(found, first)
        if len(found) < end - first or not good.all():
            at = first + (int(np.argmin(good)) if not good.all() else len(found))
            raise DataError(f"{self.path}: damaged recording: tick {at:,} is not as it was written")
        return found

    def _ticks(self, first: int, end: int) -> Records:
        size, begin = TICK.itemsize, self._begin + first * TICK.itemsize
        data = bytearray()
        with reading(self.path):
            while missing := (end - first) * size - len(data):
                part = os.pread(self._descriptor, missing, begin + len(data))
                if not part:
                    break
                data += part
        return np.frombuffer(bytes(data[: len(data) // size * size]), TICK)

    def write(self, ticks: Records) -> None:
        """Append the next ticks, and set their checksums.

        Raises:
            RecordingFull: the file has the ticks of before, and none of these.
        """
        ticks["checksum"] = checksums(ticks, self.count)
        try:
            _write(self._descriptor, ticks.tobytes(), self._begin + self.count * TICK.itemsize)
        except OSError as error:
            os.ftruncate(self._descriptor, self._begin + self.count * TICK.itemsize)
            raise RecordingFull(error.errno, error.strerror) from None
        self.count += len(ticks)

    def _cut_tail(self) -> int:
        """Cut off what a crash has left of the last write; returns how many bytes.

        Raises:
            DataError: damaged ticks stand before sound ones, so no crash has made them.
        """
        first = max(0, self.count - _TAIL_TICKS)
        found = self._ticks(first, self.count)
        good = found["checksum"] == checksums(found, first)
        if not good.all():
            bad = int(np.argmin(good))
            if good[bad:].any():
                raise DataError(
                    f"{self.path}: damaged recording: tick {first + bad:,} is not as it was "
                    "written: move the file away and set another RUN_ID"
                )
            self.count = first + bad
        end = self._begin + self.count * TICK.itemsize
        cut: int = os.fstat(self._descriptor).st_size - end
        if cut:
            os.ftruncate(self._descriptor, end)
        return cut

    def sync(self) -> None:
        """Bring what is written to the disk."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _has_begun(descriptor: int) -> bool:
    """Whether the header was written; else a crash or a full disk has left a part, and no tick."""
    head = os.pread(descriptor, _HEAD.size, 0)
    if len(head) < _HEAD.size or not head[: len(MAGIC)].rstrip(b"\0"):
        return False
    magic, size, _ = _HEAD.unpack(head)
    if magic != MAGIC or os.fstat(descriptor).st_size >= _HEAD.size + size:
        return True
    text = os.pread(descriptor, _HEADER_BYTES_MAX, _HEAD.size).decode("utf-8", "replace")
    try:
        json.JSONDecoder().raw_decode(text)
    except ValueError:
        return False
    return True  # the text is whole: its size is damaged


def _begin(descriptor: int, symbols: list[str], source: str) -> None:
    """Write the header; no tick follows before it is on the disk."""
    header = {"id": new_recording_id(), "symbols": symbols, "source": source}
    text = json.dumps(header).encode()
    os.ftruncate(descriptor, 0)
    _write(descriptor, _HEAD.pack(MAGIC, len(text), zlib.crc32(text)) + text, 0)
    os.fdatasync(descriptor)


def _write(descriptor: int, content: bytes, at: int) -> None:
    data = memoryview(content)
    while data:
        written = os.pwrite(descriptor, data, at)
        data, at = data[written:], at + written
