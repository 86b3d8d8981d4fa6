"""JSON as batches of rows: one object a line, or an array of them; its members are the columns.

Members of an object in an object are called ``outer.inner``.  A row may also be an array, as
exchanges answer: its columns are its places.  Numbers keep the digits of the file.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Final, TypeVar

import msgspec

from app.market_data.sources.errors import DataError, MalformedRows, printable
from app.market_data.sources.text.csv_reader import CHUNK_BYTES, QUOTED_ROWS, RowBatch, joined_rows
from app.market_data.sources.text.json_array import ArrayCutter, is_array
from app.market_data.sources.text.streams import LINE_BYTES_MAX, TextStream

T = TypeVar("T")

_HEAD_LINES: Final = 100
_DEPTH_MAX: Final = 4
_ARRAYS: Final = re.compile(rb'\s*\[\s*[\["\d-]')
"""How rows begin that are arrays: one a line, or an array of them."""


def is_json(head: bytes) -> bool:
    """Whether each row of a text is a JSON object or a JSON array."""
    return head.lstrip()[:1] == b"{" or is_array(head) or rows_are_arrays(head)


def rows_are_arrays(head: bytes) -> bool:
    """Whether each row of a text is a JSON array."""
    return _ARRAYS.match(head) is not None


def first_array(head: bytes) -> list[str]:
    """The fields of the first row, which is an array; none if it is damaged."""
    with suppress(ValueError):  # Its reader will say it.
        for row in _rows_of(head):
            return [_value_text(value).decode("utf-8", "replace") for value in _array(row)]
    return []


def column_names(head: bytes) -> list[str]:
    """The members of the first objects, in order of appearance."""
    names: dict[str, None] = {}
    with suppress(ValueError):  # Its reader will say it.
        for row in islice(_rows_of(head), _HEAD_LINES):
            with suppress(ValueError):  # malformed, or cut off by the end of the head
                _flatten(_object(row), "", _DEPTH_MAX, names)
    return list(names)


def rows_within(head: bytes) -> list[str]:
    """The names that lead to a list of objects or arrays in the first object; none without one."""
    with suppress(ValueError):
        for row in _rows_of(head):
            return _path_to_rows(_object(row), _DEPTH_MAX)
    return []


def _path_to_rows(found: dict[str, object], depth: int) -> list[str]:
    for name, value in found.items():
        if isinstance(value, list) and value and isinstance(value[0], list | dict):
            return [name]
        inner = _path_to_rows(value, depth - 1) if isinstance(value, dict) and depth else []
        if inner:
            return [name, *inner]
    return []


def _rows_of(head: bytes) -> Iterable[bytes]:
    return ArrayCutter().feed(head) if is_array(head) else filter(bytes.strip, head.splitlines())


def _object(text: bytes) -> dict[str, object]:
    """The object of one row; numbers with a point or an exponent are texts.

    Raises:
        ValueError: it is no JSON object.
    """
    return _decoded(_OBJECT, text, "object")


def _array(text: bytes) -> list[object]:
    """As :func:`_object`, of an array."""
    return _decoded(_ARRAY, text, "array")


def _decoded(decoder: msgspec.json.Decoder[T], text: bytes, what: str) -> T:
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"not a JSON {what}: {error}") from None


_OBJECT: Final = msgspec.json.Decoder(dict[str, object], float_hook=str)
_ARRAY: Final = msgspec.json.Decoder(list[object], float_hook=str)


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
    return _value_text(value)


def _value_text(value: object) -> bytes:
    """A value as a text; empty if it is null."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return b"" if value is None else msgspec.json.encode(value)


class JsonReader:
    """The rows of one stream, read once: the wanted columns of each.

    ``names``: of all columns.  ``head_rows``: arrays above the first row.
    """

    def __init__(
        self,
        stream: TextStream,
        names: list[str],
        wanted: list[int],
        head_rows: int,
        malformed: MalformedRows,
    ) -> None:
        self._stream, self._malformed = stream, malformed
        self._width, self._wanted, self._head_rows = len(names), wanted, head_rows
        self._paths = [names[column].split(".") for column in wanted]

    def batches(self) -> Iterator[RowBatch]:
        """Read every row; one that is no object, or no array, counts as malformed.

        A row's number is that of its line, or of its place in the array.

        Raises:
            DataError: the file cannot be read to its end.
        """
        head = self._stream.head
        fields_of = self._of_array if rows_are_arrays(head) else self._of_object
        rows: list[list[bytes]] = []
        numbers: list[int] = []
        texts = self._elements() if is_array(head) else self._lines()
        above = self._head_rows
        for number, text in enumerate(texts, 1):
            if not text.strip():
                continue
            if above:
                above -= 1
                continue
            try:
                fields = fields_of(text)
            except ValueError as error:
                self._malformed.add(number, f"{printable(text)}: {error}")
                continue
            rows.append(fields)
            numbers.append(number)
            if len(rows) == QUOTED_ROWS:
                yield joined_rows(rows, numbers)
                rows, numbers = [], []
        if rows:
            yield joined_rows(rows, numbers)

    def _of_object(self, text: bytes) -> list[bytes]:
        found = _object(text)
        return [_text(found, path) for path in self._paths]

    def _of_array(self, text: bytes) -> list[bytes]:
        found = _array(text)
        if len(found) != self._width:
            raise ValueError(f"{len(found)} fields, the first array has {self._width}")
        return [_value_text(found[column]) for column in self._wanted]

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
