"""One tick, as shared memory holds it."""

import numpy as np

TICK_DTYPE = np.dtype(
    {
        "names": ["event_ns", "price", "seq", "symbol", "recv_us"],
        "formats": ["i8", "f8", "u8", "u2", "u4"],
        "offsets": [0, 8, 16, 26, 28],
        "itemsize": 32,
    }
)
"""``event_ns``: UTC since the epoch; ``seq``: sequence number from the source; ``symbol``: index in
the symbol list; ``recv_us``: low 32 bits of CLOCK_MONOTONIC in microseconds, at receipt.  The two
bytes left out hold the seal (``app/kernel/layout.h``)."""
