"""One tick, as shared memory holds it."""

import numpy as np

TICK_DTYPE = np.dtype(
    [
        ("event_ns", "i8"),
        ("price", "f8"),
        ("seq", "u8"),
        ("seal", "u2"),
        ("symbol", "u2"),
        ("recv_us", "u4"),
    ]
)
"""``event_ns``: UTC since the epoch; ``seq``: sequence number from the source; ``symbol``: index in
the symbol list; ``recv_us``: low 32 bits of CLOCK_MONOTONIC in microseconds, at receipt.  ``seal``
checks the rest, in the ring only (``app/kernel/layout.h``).

No padding: NumPy would drop it when it copies, for example in ``concatenate``."""
