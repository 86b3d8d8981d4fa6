"""A text file as a stream of UTF-8 bytes; compression and encoding are told by its first bytes."""

import bz2
import codecs
import gzip
import importlib
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final, Protocol

from app.market_data.sources.errors import DataError, reading
from app.market_data.sources.files import files_in, open_member, open_part
from app.market_data.sources.source import ReadProgress

HEAD_BYTES: Final = 1 << 16
LINE_BYTES_MAX: Final = 1 << 20
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_UTF8_BOM: Final = b"\xef\xbb\xbf"


class Readable(Protocol):
    """What a decoder needs of a file."""

    def read(self, count: int, /) -> bytes:
        """At most ``count`` bytes; none at the end."""


class TextStream:
    """One file, open for one pass: :attr:`head` is the text's beginning, :meth:`read` gives it all.

    Nothing but the piece that was read last is kept.
    """

    def __init__(self, path: Path, progress: ReadProgress | None = None) -> None:
        self.path = path
        self._progress = progress
        with reading(path):
            self._raw, self._size_bytes = open_part(path)
        try:
            with reading(path):
                self.packing, self._stream = _unpacked(path, self._raw)
            with reading(path, self.packing):
                first = self._stream.read(HEAD_BYTES)
                self.encoding = "UTF-8"
                for bom, name in (
                    (codecs.BOM_UTF16_LE, "UTF-16LE"),
                    (codecs.BOM_UTF16_BE, "UTF-16BE"),
                ):
                    if first.startswith(bom):
                        self.encoding = name
                        self._stream = _Recoded(first[len(bom) :], self._stream, name, path)
                        first = self._stream.read(HEAD_BYTES)
            self.head = first.removeprefix(_UTF8_BOM)
            while more := self._missing_of_head():
                self.head += more
        except BaseException:
            self.close()
            raise
        self._pending = self.head

    def _missing_of_head(self) -> bytes:
        """More of the head until it has its full size and, if the file has one, a whole line."""
        missing = HEAD_BYTES - len(self.head)
        if missing <= 0 and (b"\n" in self.head or len(self.head) > LINE_BYTES_MAX):
            return b""
        return self._read(missing if missing > 0 else HEAD_BYTES)

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def skip(self, count: int) -> None:
        """Leave out bytes of the head, before anything is read."""
        self._pending = self._pending[count:]

    def read(self, count: int) -> bytes:
        """At most ``count`` bytes more, or fewer; none at the end.

        Raises:
            DataError: the file cannot be read to its end.
        """
        if self._pending:
            piece, self._pending = self._pending[:count], self._pending[count:]
            return piece
        return self._read(count)

    def _read(self, count: int) -> bytes:
        with reading(self.path, self.packing):
            data = self._stream.read(count)
            if self._progress:
                self._progress(self._raw.tell(), self._size_bytes)
        return data


def _unpacked(path: Path, raw: IO[bytes]) -> tuple[str, Readable]:
    """The compression of a file, or an empty text, and the stream of what is in it."""
    magic = raw.read(6)
    raw.seek(0)
    for name, start, opener in _PACKINGS:
        if magic.startswith(start):
            return name, opener(path, raw)
    return "", raw


def _gzip(_path: Path, raw: IO[bytes]) -> Readable:
    return gzip.GzipFile(fileobj=raw)


def zstd_module() -> Any:
    """Python's own decoder of zstd from 3.14 on, else its backport; None without both."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    return None


class _Zstd:
    """A stream of zstd, whose errors are those of the other decoders."""

    def __init__(self, path: Path, raw: IO[bytes]) -> None:
        self._module = zstd_module()
        if self._module is None:
            raise DataError(f"{path}: zstd needs the package backports.zstd: pip install it")
        self._file = self._module.ZstdFile(raw)

    def read(self, count: int, /) -> bytes:
        try:
            data: bytes = self._file.read(count)
        except self._module.ZstdError as error:
            raise EOFError(error) from None
        return data


def _zip(path: Path, raw: IO[bytes]) -> Readable:
    with reading(path, "zip"):
        archive = zipfile.ZipFile(raw)
    files = files_in(archive)
    if len(files) != 1:
        names = ", ".join(info.filename for info in files[:5]) or "none"
        raise DataError(
            f"{path}: a zip file must hold one file here, this one holds {len(files)} ({names}): "
            "unpack it"
        )
    return open_member(path, archive, files[0])


_PACKINGS: Final[list[tuple[str, bytes, Callable[[Path, IO[bytes]], Readable]]]] = [
    ("gzip", b"\x1f\x8b", _gzip),
    ("zstd", ZSTD_MAGIC, _Zstd),
    ("xz", b"\xfd7zXZ\0", lambda _, raw: lzma.LZMAFile(raw)),  # noqa: SIM115
    ("bzip2", b"BZh", lambda _, raw: bz2.BZ2File(raw)),
    ("zip", b"PK\x03\x04", _zip),
]
"""Name, first bytes, and how it is opened."""


class _Recoded:
    """A stream of UTF-16 as UTF-8."""

    def __init__(self, first: bytes, stream: Readable, encoding: str, path: Path) -> None:
        self._first, self._stream, self._path = first, stream, path
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def read(self, count: int, /) -> bytes:
        while True:
            data, self._first = self._first or self._stream.read(count), b""
            try:
                text = self._decoder.decode(data, final=not data).encode()
            except UnicodeError as error:
                raise DataError(f"{self._path}: damaged UTF-16 text: {error}") from None
            if text or not data:
                return text
