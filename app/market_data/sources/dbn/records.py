"""The records of a DBN file: bytes in, runs of equal records out, no I/O.

A record begins with its length in words of four bytes and its type.  Those with prices begin alike:

    length, type (u8), publisher (u16), instrument (u32), ts_event (u64)
    trades and quotes:  price (i64), size (u32), action, side, flags, depth (u8), ts_recv (u64),
                        eight bytes more; quotes then have the best bid and ask (i64)
    bars:               open, high, low, close (i64)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from app.market_data.ragged import Bytes

_HEADER: Final = [
    ("length", "u1"),
    ("rtype", "u1"),
    ("publisher_id", "<u2"),
    ("instrument_id", "<u4"),
    ("ts_event", "<u8"),
]
_TRADE: Final = [
    *_HEADER,
    ("price", "<i8"),
    ("size", "<u4"),
    ("action", "S1"),
    ("side", "S1"),
    ("flags", "u1"),
    ("depth", "u1"),
    ("ts_recv", "<u8"),
    ("rest", "V8"),
]
HEADER: Final = np.dtype(_HEADER)
TRADE: Final = np.dtype(_TRADE)
QUOTE: Final = np.dtype([*_TRADE, ("bid_px_00", "<i8"), ("ask_px_00", "<i8")])
BAR: Final = np.dtype(
    [*_HEADER, ("open", "<i8"), ("high", "<i8"), ("low", "<i8"), ("close", "<i8")]
)

UNDEF_PRICE: Final = (1 << 63) - 1
UNDEF_TIMESTAMP: Final = (1 << 64) - 1
SYMBOL_MAPPING: Final = 22
SAMPLED: Final = (192, 193, 195, 196)
"""Quotes at intervals, which also have the last price of a trade: cbbo-1s, -1m, bbo-1s, -1m."""

FORMS: Final[dict[int, npt.DTypeLike]] = {
    0: TRADE,  # trades
    **dict.fromkeys((1, 10, 177, 194, *SAMPLED), QUOTE),  # mbp-1, tbbo; mbp-10; cmbp-1; tcbbo
    **dict.fromkeys((17, 32, 33, 34, 35, 36), BAR),  # ohlcv
}
"""Record type -> how it begins; types without prices are left out."""

_PROBE: Final = 64


@dataclass(frozen=True, slots=True)
class Run:
    """Records of one type and length.  ``first``: the number of the first one, from 1.

    ``data``: one row of bytes each.
    """

    first: int
    rtype: int
    data: npt.NDArray[np.uint8]

    def view(self, form: npt.DTypeLike) -> Any:
        """How the records begin, as a structured array of shape ``(n,)``.

        Raises:
            ValueError: they are too short.
        """
        kind = np.dtype(form)
        if self.data.shape[1] < kind.itemsize:
            raise ValueError(
                f"damaged: record {self.first} of type {self.rtype} has {self.data.shape[1]} bytes"
            )
        return np.ascontiguousarray(self.data[:, : kind.itemsize]).view(kind)[:, 0]


class RecordSplitter:
    """Cuts a stream of bytes into runs of records."""

    def __init__(self) -> None:
        self._rest = b""
        self.records = 0

    def feed(self, data: bytes) -> Iterator[Run]:
        """The runs that are complete with ``data``.

        Raises:
            ValueError: this is no record.
        """
        data = self._rest + data if self._rest else data
        array = np.frombuffer(data, np.uint8)
        at = 0
        while len(array) - at >= HEADER.itemsize:
            size, rtype = int(array[at]) * 4, int(array[at + 1])
            if size < HEADER.itemsize:
                raise ValueError(f"damaged: record {self.records + 1} has {size} bytes")
            count = _equal(array[at:], size, rtype)
            if not count:
                break
            end = at + count * size
            self.records += count
            yield Run(self.records - count + 1, rtype, array[at:end].reshape(count, size))
            at = end
        self._rest = data[at:]

    def finish(self) -> None:
        """The stream ends here.

        Raises:
            ValueError: in the middle of a record.
        """
        if self._rest:
            raise ValueError(f"truncated: ends inside record {self.records + 1}")


def _equal(array: Bytes, size: int, rtype: int) -> int:
    """How many records at the beginning have this length and type."""
    whole, probe = len(array) // size, _PROBE
    while True:
        count = min(whole, probe)
        heads = array[: count * size].reshape(count, size)[:, :2]
        other = np.flatnonzero((heads[:, 0] != size // 4) | (heads[:, 1] != rtype))
        if len(other):
            return int(other[0])
        if count == whole:
            return count
        probe *= 8
