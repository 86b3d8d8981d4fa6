"""A JSON array of objects, or of arrays, cut into the texts of its elements as it is read."""

import json
import re
from collections.abc import Iterator
from typing import Final

from app.market_data.sources.text.streams import LINE_BYTES_MAX

_DECODER: Final = json.JSONDecoder()
_KINDS: Final = {"{": "object", "[": "array"}
_BETWEEN: Final = re.compile(r"[\s,]*")


def is_array(head: bytes) -> bool:
    """Whether a text begins like an array of objects, or of arrays."""
    return re.match(rb"\s*\[\s*[\[{]", head) is not None


class ArrayCutter:
    """Takes the bytes of an array in pieces of any size.

    Only where an element ends is found out here; what is in it, whoever takes it decodes.  Commas
    between elements may be missing.  All are of the kind of the first: objects, or arrays.
    """

    def __init__(self) -> None:
        self._pending = self._begin = ""
        self._count = 0
        self._opened = self._closed = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The elements that end in ``data``.

        Raises:
            ValueError: the text is no such array, and at which element.
        """
        # Each byte as one character: the syntax of JSON is ASCII, so places stay the same.
        text = self._pending + data.decode("latin-1")
        at = 0
        if not self._opened:
            at = text.find("[") + 1
            self._opened = at > 0
        while not self._closed and (at := _after(text, at)) < len(text):
            if text[at] == "]":
                self._closed = True
                at += 1
                break
            self._begin = self._begin or text[at]
            if text[at] != self._begin or self._begin not in _KINDS:
                kind = _KINDS.get(self._begin, "object")
                shown = repr(text[at : at + 20])
                raise ValueError(f"element {self._count + 1} is no {kind}: {shown}")
            try:
                _, end = _DECODER.raw_decode(text, at)
            except (ValueError, RecursionError) as error:
                if len(text) - at > LINE_BYTES_MAX:
                    raise ValueError(f"element {self._count + 1}: {error}") from None
                break  # The rest of it may follow.
            self._count += 1
            yield text[at:end].encode("latin-1")
            at = end
        if self._closed and text[at:].strip():
            raise ValueError(f"text after the array: {text[at:].strip()[:20]!r}")
        self._pending = text[at:]

    def finish(self) -> None:
        """The text is over.

        Raises:
            ValueError: the array is not.
        """
        if not self._closed:
            raise ValueError(f"it ends within element {self._count + 1}, or lacks its bracket")


def _after(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return found.end() if found else at
