"""JSON lines as batches of rows: one object a line, whose members are the columns.

Members of an object in an object are called ``outer.inner``.  Numbers keep the digits of the file.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from app.market_data.sources.errors import DataError, MalformedRows, printable
from app.market_data.sources.text.csv_reader import CHUNK_BYTES, QUOTED_ROWS, RowBatch, joined_rows
from app.market_data.sources.text.streams import LINE_BYTES_MAX, TextStream

_HEAD_LINES: Final = 100
_DEPTH_MAX: Final = 4


def is_json(path: Path, head: bytes) -> bool:
    """Whether a text is JSON lines.

    Raises:
        DataError: it is one JSON array.
    """
    start = head.lstrip()[:1]
    if start == b"[" and head.lstrip()[1:].lstrip()[:1] in (b"{", b"["):
        raise DataError(
            f"{path}: a JSON array: write one object a line, as jq -c '.[]' FILE >FILE.jsonl does"
        )
    return start == b"{"


def column_names(head: bytes) -> list[str]:
    """The members of the first objects, in order of appearance."""
    names: dict[str, None] = {}
    for line in head.splitlines()[:_HEAD_LINES]:
        try:
            names.update(dict.fromkeys(_members(line)))
        except ValueError:
            continue  # malformed, or cut off by the end of the head
    return list(names)


def _members(line: bytes) -> dict[str, bytes]:
    """The members of one line's object as texts; an absent value is an empty text.

    Raises:
        ValueError: it is no JSON object.
    """
    try:
        found = json.loads(line, parse_float=str, parse_int=str)
    except RecursionError:
        raise ValueError("not JSON: nested too deep") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    texts: dict[str, bytes] = {}
    _flatten(found, "", _DEPTH_MAX, texts)
    return texts


def _flatten(found: dict[str, object], prefix: str, depth: int, texts: dict[str, bytes]) -> None:
    for name, value in found.items():
        if isinstance(value, dict) and depth:
            _flatten(value, f"{prefix}{name}.", depth - 1, texts)
        elif isinstance(value, str):
            texts[prefix + name] = value.encode("utf-8", "surrogatepass")
        elif value is None:
            texts[prefix + name] = b""
        else:
            texts[prefix + name] = json.dumps(value).encode()


class JsonReader:
    """The rows of one stream, read once: the wanted members of each line's object."""

    def __init__(self, stream: TextStream, wanted: list[str], malformed: MalformedRows) -> None:
        self._stream, self._wanted, self._malformed = stream, wanted, malformed

    def batches(self) -> Iterator[RowBatch]:
        """Read every line that holds an object; others count as malformed.

        Raises:
            DataError: the file cannot be read to its end.
        """
        rows: list[list[bytes]] = []
        numbers: list[int] = []
        for number, line in enumerate(self._lines(), 1):
            if not line.strip():
                continue
            try:
                members = _members(line)
            except ValueError as error:
                self._malformed.add(number, f"{printable(line)}: {error}")
                continue
            rows.append([members.get(name, b"") for name in self._wanted])
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
