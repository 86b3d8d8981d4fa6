"""A writer and a reader of the tick ring, for the ring's tests and their child processes."""

import time
from typing import Any

import numpy as np

from app.kernel import _kernel
from app.model.tick import TICK_DTYPE
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.tick_ring import TickRing
from tests.support.kernel.helpers import feed, padded

READER = """
    import sys
    import numpy as np
    from app.kernel import _kernel
    from app.model.tick import TICK_DTYPE
    from app.shared_memory_utils.tick_ring import TickRing
    name, client, policy = sys.argv[1:]
    ring = TickRing.attach(name)
    registration = ring.register(client, int(policy))
    reader = _kernel.TickReader(ring.buffer, registration.slot)
    print(registration.name, registration.returning, reader.position, flush=True)
    for line in sys.stdin:
        command, count = line.split()
        if command == "wait":
            print("waiting", flush=True)
            print(reader.wait(int(count)), flush=True)
        elif command == "take":
            ticks = np.zeros(int(count), TICK_DTYPE)
            there = reader.copy(ticks)
            prices = ticks["price"][:there].astype(int)
            reader.advance(there)
            print(*prices, flush=True)
        elif command == "leave":
            ring.leave(registration.slot)
            print("left", flush=True)
"""
"""Code of a child process: registers, then obeys ``wait``, ``take`` and ``leave``."""


class Writer:
    """The orderbook's side: ring, book and kernel writer."""

    def __init__(self, name: str, capacity: int = 16, policy: str = "lossless") -> None:
        self.ring = TickRing.open_writer(name, capacity, policy)
        self.book = SharedPriceBook(["A"], f"{name}_book")
        self.kernel = _kernel.TickWriter(
            self.ring.buffer, self.book.buffer, _kernel.FieldParser(["A"])
        )
        self.sent = self.kernel.state[0]

    def push(self, count: int) -> int:
        """Write ticks with prices 1, 2, 3...; return how many had space."""
        data = feed(*range(self.sent + 1, self.sent + count + 1))
        done, _, _ = self.kernel.push(padded(data), 0, len(data), time.monotonic_ns())
        self.sent += done
        return done

    def close(self) -> None:
        """Release everything, as the end of the process would."""
        del self.kernel
        self.ring.close()
        self.book.close()


def read(reader: Any, most: int = 1000) -> list[float]:
    """Prices of the unread ticks, which are consumed."""
    ticks = np.zeros(most, TICK_DTYPE)
    count = reader.copy(ticks)
    prices: list[float] = ticks["price"][:count].tolist()
    reader.advance(count)
    return prices
