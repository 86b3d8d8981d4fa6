"""The two records of a live feed: a trade as it was received, and a tick as it is recorded."""

import secrets
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Records = npt.NDArray[np.void]

NO_ID: Final = -1
"""Trade id of a trade that has none."""

TRADE: Final = np.dtype(
    [
        ("exchange_ns", "<i8"),
        ("receive_ns", "<i8"),
        ("price", "<i8"),
        ("trade_id", "<i8"),
        ("qty", "<f8"),
        ("symbol", "<i8"),
    ]
)
"""As received: exchange's and this machine's time (ns since the epoch), price in money units, the
exchange's number or NO_ID, quantity or NaN, index of the symbol."""

TICK: Final = np.dtype([("event_ns", "<i8"), *TRADE.descr, ("checksum", "<u8")])
"""As recorded, 64 bytes: ``event_ns`` never goes back; the checksum covers the tick's number."""

assert TICK.itemsize == 64

_WORDS: Final = TICK.itemsize // 8
_FACTORS: Final = np.array(
    [0x9E3779B97F4A7C15 * (2 * place + 1) % (1 << 64) | 1 for place in range(_WORDS)], np.uint64
)


def checksums(ticks: Records, first_seq: int) -> npt.NDArray[np.uint64]:
    """The checksum of each tick; the first has the sequence number ``first_seq``.

    Against torn and damaged records, not against somebody who can write the file.
    """
    words = np.ascontiguousarray(ticks).view(np.uint64).reshape(len(ticks), _WORDS)
    numbers = np.arange(first_seq + 1, first_seq + 1 + len(ticks), dtype=np.uint64)
    total = numbers * _FACTORS[-1]
    for place in range(_WORDS - 1):
        mixed = (words[:, place] ^ (words[:, place] >> np.uint64(29))) * _FACTORS[place]
        total = total + (mixed ^ (mixed >> np.uint64(32)))
    checksum: npt.NDArray[np.uint64] = total
    return checksum


class Trade(NamedTuple):
    """One trade of a message, checked; the fields are those of :data:`TRADE`."""

    exchange_ns: int
    price: int
    trade_id: int
    qty: float
    symbol: int


def new_recording_id() -> str:
    """A name that no other recording has."""
    return secrets.token_hex(8)
