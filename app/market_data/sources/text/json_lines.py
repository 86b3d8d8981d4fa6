"""JSON as batches of rows: one object a line, or an array of them; its members are the columns.

Members of an object in an object are called ``outer.inner``.  Numbers keep the digits of the file.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from app.market_data.sources.errors import DataError, MalformedRows, printable
from app.market_data.sources.text.csv_reader import CHUNK_BYTES, QUOTED_ROWS, RowBatch, joined_rows
from app.market_data.sources.text.json_array import ArrayCutter, is_array
from app.market_data.sources.text.streams import LINE_BYTES_MAX, TextStream

_HEAD_LINES: Final = 100
_DEPTH_MAX: Final = 4


def is_json(path: Path, head: bytes) -> bool:
    """Whether a text is JSON lines, or a JSON array of objects.

    Raises:
        DataError: it is an array of arrays.
    """
    if re.match(rb"\s*\[\s*\[", head):
        raise DataError(
            f"{path}: a JSON array of arrays, whose columns have no names: write one row a line, "
            "as jq -r '.[]|@csv' FILE >FILE.csv does"
        )
    return head.lstrip()[:1] == b"{" or is_array(head)


def column_names(head: bytes) -> list[str]:
    """The members of the first objects, in order of appearance."""
    names: dict[str, None] = {}
    objects: Iterable[bytes] = ArrayCutter().feed(head) if is_array(head) else head.splitlines()
    with suppress(ValueError):  # Its reader will say it.
        for line in islice(objects, _HEAD_LINES):
            with suppress(ValueError):  # malformed, or cut off by the end of the head
                _flatten(_decoded(line), "", _DEPTH_MAX, names)
    return list(names)


def _decoded(line: bytes) -> dict[str, object]:
    """The object of one line; numbers with a point or an exponent are texts.

    Raises:
        ValueError: it is no JSON object.
    """
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"not a JSON object: {error}") from None


_DECODER: Final = msgspec.json.Decoder(dict[str, object], float_hook=str)


def _flatten(found: dict[str, object], prefix: str, depth: int, names: dict[str, None]) -> None:
    for name, value in found.items():
        if isinstance(value, dict) and depth:
            _flatten(value, f"{prefix}{name}.", depth - 1, names)
        else:
            names[prefix + name] = None


def _text(found: dict[str, object], path: list[str]) -> bytes:
    """A member as a text; empty if it is absent or null."""
    value: object = found
    for at, name in enumerate(path):
        if not isinstance(value, dict):
            return b""
        whole = ".".join(path[at:])
        if whole in value:
            value = value[whole]
            break
        value = value.get(name)
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return b"" if value is None else msgspec.json.encode(value)


class JsonReader:
    """The rows of one stream, read once: the wanted members of each object."""

    def __init__(self, stream: TextStream, wanted: list[str], malformed: MalformedRows) -> None:
        self._stream, self._wanted, self._malformed = stream, wanted, malformed

    def batches(self) -> Iterator[RowBatch]:
        """Read every object; a line that holds none counts as malformed.

        A row's number is that of its line, or of its place in the array.

        Raises:
            DataError: the file cannot be read to its end.
        """
        paths = [name.split(".") for name in self._wanted]
        rows: list[list[bytes]] = []
        numbers: list[int] = []
        texts = self._elements() if is_array(self._stream.head) else self._lines()
        for number, line in enumerate(texts, 1):
            if not line.strip():
                continue
            try:
                found = _decoded(line)
            except ValueError as error:
                self._malformed.add(number, f"{printable(line)}: {error}")
                continue
            rows.append([_text(found, path) for path in paths])
            numbers.append(number)
            if len(rows) == QUOTED_ROWS:
                yield joined_rows(rows, numbers)
                rows, numbers = [], []
        if rows:
            yield joined_rows(rows, numbers)

    def _lines(self) -> Iterator[bytes]:
        pending = b""
        while more := self._stream.read(CHUNK_BYTES):
            *full, pending = (pending + more).split(b"\n")
            yield from full
            if len(pending) > LINE_BYTES_MAX:
                raise DataError(
                    f"{self._stream.path}: a line is longer than {LINE_BYTES_MAX} bytes"
                )
        if pending:
            yield pending

    def _elements(self) -> Iterator[bytes]:
        cutter = ArrayCutter()
        try:
            while more := self._stream.read(CHUNK_BYTES):
                yield from cutter.feed(more)
            cutter.finish()
        except ValueError as error:
            raise DataError(f"{self._stream.path}: damaged JSON array: {error}") from None
