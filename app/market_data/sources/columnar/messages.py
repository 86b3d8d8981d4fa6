"""What the decoder's process says to the one that loads: bytes in and out, no I/O.

A message is its length, four bytes little-endian, and MessagePack.
"""

import struct
from typing import Final

import msgspec
import numpy as np

from app.market_data.sources.columnar.row_builder import DecodedRows
from app.market_data.tick_table import Columns

MESSAGE_BYTES_MAX: Final = 1 << 28
_LENGTH: Final = struct.Struct("<I")


class Request(msgspec.Struct, frozen=True):
    """The decoder's only argument.  ``prices``: else sentiments.  ``rows``: else what it is."""

    path: str
    form: str
    prices: bool
    columns: Columns
    rows: bool = True


class Batch(msgspec.Struct, frozen=True, tag=True):
    """Some rows; ``names``: symbols that are new.  ``read_bytes``: of the file, so far."""

    names: list[str]
    number: bytes
    event_ns: bytes
    symbol: bytes
    value: bytes
    sentiment: bytes | None
    quarter: bytes | None
    bad: list[tuple[int, str, bytes, str]]
    read_bytes: int

    def rows(self) -> DecodedRows:
        """The rows as arrays."""
        number, event_ns, symbol, value = (
            np.frombuffer(data, np.int64)
            for data in (self.number, self.event_ns, self.symbol, self.value)
        )
        sentiment = None if self.sentiment is None else np.frombuffer(self.sentiment, np.int16)
        quarter = None if self.quarter is None else np.frombuffer(self.quarter, np.int64)
        return DecodedRows(number, event_ns, symbol, value, sentiment, quarter, self.bad)


class Described(msgspec.Struct, frozen=True, tag=True):
    """What a file is: the names of its columns and their types, and the form of its layout."""

    columns: list[tuple[str, str]]
    form: str


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The file cannot be used, and why; the last message."""

    reason: str


class Done(msgspec.Struct, frozen=True, tag=True):
    """The file has been read to its end; the last message."""


Message = Batch | Described | Refused | Done
_decoder: Final = msgspec.msgpack.Decoder(Message)


def batch_of(rows: DecodedRows, names: list[str], read_bytes: int) -> Batch:
    """The message with these rows."""
    return Batch(
        names,
        rows.number.tobytes(),
        rows.event_ns.tobytes(),
        rows.symbol.tobytes(),
        rows.value.tobytes(),
        None if rows.sentiment is None else rows.sentiment.tobytes(),
        None if rows.quarter is None else rows.quarter.tobytes(),
        rows.bad,
        read_bytes,
    )


def encode(message: Message) -> bytes:
    """One message with its length."""
    data = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(data)) + data


class Inbox:
    """Bytes in, messages out."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete with ``data``.

        Raises:
            ValueError: these are not messages.
        """
        self._data += data
        found: list[Message] = []
        at = 0
        while len(self._data) - at >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._data, at)
            if size > MESSAGE_BYTES_MAX:
                raise ValueError(f"a message of {size} bytes")
            end = at + _LENGTH.size + size
            if end > len(self._data):
                break
            found.append(_decoder.decode(bytes(self._data[at + _LENGTH.size : end])))
            at = end
        del self._data[:at]
        return found
