"""One tick as shared memory holds it."""

import numpy as np

TICK_DTYPE = np.dtype(
    [("event_ns", "i8"), ("price", "f8"), ("seq", "u8"), ("symbol", "u4"), ("recv_us", "u4")]
)
"""One tick: ``event_ns`` UTC since the epoch, ``seq`` the source's sequence, ``symbol`` an index
into the symbol list, ``recv_us`` the low 32 bits of CLOCK_MONOTONIC in microseconds at receipt."""
