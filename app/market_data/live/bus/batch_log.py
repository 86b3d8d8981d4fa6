"""The recording of a shard's feed: the messages of its stream, written before a tick is sent on.

Each record is a head with its own checksum, and the body as it arrived.  So a gateway that starts
again asks the stream for what follows the last record.  What a crash has left of the last write is
cut off: the stream gives it again.  The first record begins the run.
"""

import fcntl
import os
import struct
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec

from app.market_data.live.bus.batch import (
    TICKS_MAX,
    BatchError,
    Kind,
    Message,
    decode_begin,
)
from app.market_data.live.tick_log import RecordingFull
from app.market_data.sources.errors import DataError, reading

SUFFIX: Final = ".batches"
MAGIC: Final = b"TRDBATCH"
_HEAD: Final = struct.Struct("<8sIIQIIQIQII")
"""Magic, checksum of the rest of the head, checksum of the body, place in the stream, kind, map
version, first tick, ticks, next tick of the source, bytes of prices, bytes of the body."""
_CHECKED: Final = len(MAGIC) + 4
"""Where that begins which the head's checksum covers."""
_KINDS: Final = tuple(Kind)
_INDEX_TICKS: Final = TICKS_MAX // 4
"""An index entry every so many ticks: a quiet market has a message for each tick."""
_SPAN_BYTES: Final = 1 << 20


class Record(NamedTuple):
    """One message, and its place in the stream."""

    place: int
    message: Message


class _Damaged(Exception):
    """There is no whole record here."""


class BatchLog:
    """The open file; ``begin`` describes the run.  :meth:`records` reads on from the last call."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Reads nothing but the first record.

        Raises:
            DataError: the file has no whole first record, or another one.
        """
        self.path, self._descriptor = path, descriptor
        self.run = ""
        self._end = 0
        self._firsts, self._offsets = array("q"), array("q")
        try:
            (_, message), _ = self._next(0)
            self.begin = decode_begin(message._replace(run=_run_of(message.body)))
        except (_Damaged, BatchError) as error:
            raise DataError(f"{path}: not a recording of the bus, or damaged: {error}") from None
        self.run, self.symbols = self.begin.run, self.begin.symbols

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
    def append(cls, path: Path, first: Record | None = None) -> Self | None:
        """Open a recording to go on, or begin one with ``first``; None: there is none yet.

        Raises:
            DataError: it is of another run, damaged, in use, or cannot be written.
        """
        with reading(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError(
                    f"{path}: another process records there: set another LIVE_RECORD or RUN_ID"
                ) from None
            if not _has_begun(descriptor):
                if first is None:
                    os.close(descriptor)
                    return None
                with reading(path):
                    os.ftruncate(descriptor, 0)
                    _write(descriptor, _encoded(first), 0)
            return cls(path, descriptor)
        except DataError:
            os.close(descriptor)
            raise

    def records(self) -> Iterator[Record]:
        """The records that were added since the last call.

        What follows the last whole record is left alone: another process may be writing it.
        """
        size = os.fstat(self._descriptor).st_size
        while self._end < size:
            try:
                record, after = self._next(self._end)
            except _Damaged:
                return
            self._note(record, self._end)
            self._end = after
            yield record

    def cut_tail(self) -> int:
        """Cut off what a crash has left after the last record; returns how many bytes.

        Raises:
            DataError: sound records follow, so no crash has made it.
        """
        left = os.fstat(self._descriptor).st_size - self._end
        if left <= 0:
            return 0
        at, tail = self._end + 1, b""
        while part := os.pread(self._descriptor, _SPAN_BYTES, at):
            whole = tail + part
            found = whole.find(MAGIC)
            while found >= 0:
                head = os.pread(self._descriptor, _HEAD.size, at - len(tail) + found)
                if _is_sound(head):
                    raise DataError(
                        f"{self.path}: damaged recording after byte {self._end}: move the file "
                        "away; the stream has its ticks"
                    )
                found = whole.find(MAGIC, found + 1)
            tail, at = part[-len(MAGIC) :], at + len(part)
        os.ftruncate(self._descriptor, self._end)
        return left

    def _next(self, at: int) -> tuple[Record, int]:
        """The record at this byte, and where the next one is."""
        head = os.pread(self._descriptor, _HEAD.size, at)
        if not _is_sound(head):
            raise _Damaged(f"no record at byte {at}")
        _, _, checksum, place, kind, version, first, count, source, prices, size = _HEAD.unpack(
            head
        )
        body = os.pread(self._descriptor, size, at + _HEAD.size)
        if len(body) != size or zlib.crc32(body) != checksum or kind >= len(_KINDS):
            raise _Damaged(f"the record at byte {at} is not as it was written")
        message = Message(_KINDS[kind], self.run, version, first, count, source, body, prices)
        return Record(place, message), at + _HEAD.size + size

    def _note(self, record: Record, at: int) -> None:
        """Remember where the ticks are."""
        first = record.message.seq_first
        if not self._firsts or first >= self._firsts[-1] + _INDEX_TICKS:
            self._firsts.append(first)
            self._offsets.append(at)

    def write(self, records: list[Record]) -> None:
        """Append the next records; all before them have been read.

        Raises:
            RecordingFull: the file has the records of before, and none of these.
        """
        pieces = [_encoded(record) for record in records]
        try:
            _write(self._descriptor, b"".join(pieces), self._end)
        except OSError as error:
            os.ftruncate(self._descriptor, self._end)
            raise RecordingFull(error.errno, error.strerror) from None
        for record, piece in zip(records, pieces, strict=True):
            self._note(record, self._end)
            self._end += len(piece)

    def batches(self, first: int, end: int) -> Iterator[Message]:
        """The batches with a tick from ``first`` to ``end - 1``, of those that were read.

        Raises:
            DataError: one of them is damaged.
        """
        at = self._offsets[max(bisect_right(self._firsts, first) - 1, 0)] if self._offsets else 0
        while at < self._end:
            try:
                (_, message), at = self._next(at)
            except _Damaged as error:
                raise DataError(f"{self.path}: damaged recording: {error}") from None
            if message.seq_first >= end:
                return
            if message.ticks and message.seq_end > first:
                yield message

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _encoded(record: Record) -> bytes:
    message = record.message
    head = _HEAD.pack(
        MAGIC,
        0,
        zlib.crc32(message.body),
        record.place,
        _KINDS.index(message.kind),
        message.map_version,
        message.seq_first,
        message.ticks,
        message.source_next,
        message.price_bytes,
        len(message.body),
    )
    checksum = zlib.crc32(head[_CHECKED:]).to_bytes(4, "little")
    return MAGIC + checksum + head[_CHECKED:] + message.body


def _is_sound(head: bytes) -> bool:
    """Whether this is the head of a record, as it was written."""
    if len(head) < _HEAD.size or not head.startswith(MAGIC):
        return False
    checksum = int.from_bytes(head[len(MAGIC) : _CHECKED], "little")
    return zlib.crc32(head[_CHECKED:]) == checksum


def _has_begun(descriptor: int) -> bool:
    """Whether the first record was written; else a crash or a full disk has left a part of it."""
    head = os.pread(descriptor, _HEAD.size, 0)
    if not head[: len(MAGIC)].rstrip(b"\0") or len(head) < _HEAD.size:
        return False
    size = _HEAD.unpack(head)[-1]
    return not _is_sound(head) or os.fstat(descriptor).st_size >= _HEAD.size + size


def _run_of(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Named).run
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


class _Named(msgspec.Struct):
    run: str


def _write(descriptor: int, content: bytes, at: int) -> None:
    data = memoryview(content)
    while data:
        written = os.pwrite(descriptor, data, at)
        data, at = data[written:], at + written
