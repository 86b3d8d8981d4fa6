"""A real orderbook process, and gateways for it that cut, repeat and damage their stream."""

import signal
import subprocess
import sys
from collections.abc import Callable

import numpy as np

from app.kernel import _kernel
from app.model.tick import TICK_DTYPE
from app.shared_memory_utils.segment import SegmentMissing
from app.shared_memory_utils.tick_ring import LOSSLESS, TickRing
from tests.support.children import eventually
from tests.support.environ import default_environ
from tests.support.fake_servers import Connection
from tests.support.paths import ROOT

TICKS = 3000
SYMBOLS = ["AAPL", "MSFT", "TSLA"]
Handler = Callable[[Connection], None]


def tick(seq: int) -> bytes:
    """The frames of one tick; its price is its number and a half."""
    symbol = SYMBOLS[seq % 3]
    minute, second = divmod(seq, 60)
    return f"2025-10-01 09:{minute:02d}:{second:02d}*{symbol}*{seq + 1}.5*".encode()


def greeting(first: int, run: str = "r1") -> bytes:
    """What comes before the ticks."""
    return f"SYMBOLS|{','.join(SYMBOLS)}*RUN|{run}*SEQ|{first}*".encode()


def serve(change: Callable[[bytes], bytes] = lambda data: data, piece: int = 4096) -> Handler:
    """Send the stream from the requested tick to the end, altered by ``change``."""

    def handle(connection: Connection) -> None:
        first = connection.resume()
        data = b"".join(map(tick, range(first, TICKS))) + b"END|%d*" % TICKS
        connection.send(greeting(first) + change(data), piece)
        connection.finish()

    return handle


def cut(size: int, reset: bool) -> Handler:
    """Send ``size`` bytes of ticks, then close the connection or reset it."""

    def handle(connection: Connection) -> None:
        first = connection.resume()
        connection.send(greeting(first) + b"".join(map(tick, range(first, TICKS)))[:size])
        if reset:
            connection.reset()

    return handle


def insert(damage: bytes, seq: int) -> Handler:
    """Send the stream with ``damage`` inside one tick."""
    right = tick(seq)
    return serve(lambda data: data.replace(right, right[:9] + damage + right[9:]))


class Orderbook:
    """A real orderbook process; :meth:`take` reads its ring as a lossless reader."""

    def __init__(self, name: str, port: int, **settings: str) -> None:
        self.name = name
        environment = {
            "GATEWAY_HOST": "127.0.0.1",
            "PRICE_PORT": str(port),
            "SHM_PRICE_BOOK": f"{name}_book",
            "SHM_METADATA": f"{name}_metadata",
            "SHM_TICK_RING": f"{name}_ring",
            "SHM_METRICS": f"{name}_metrics",
            "RECONNECT_DELAY_MS": "1",
            "RECONNECT_DELAY_MS_MAX": "5",
            "LOG_LEVEL": "INFO",
            **settings,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app.orderbook"],
            cwd=ROOT,
            env={**default_environ(), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ring(self) -> TickRing:
        """Attach its ring; waits until the ring exists."""
        found: list[TickRing] = []

        def attach() -> bool:
            try:
                found.append(TickRing.attach(f"{self.name}_ring"))
            except SegmentMissing:
                assert self.process.poll() is None, self.process.communicate()[0]
                return False
            return True

        eventually(attach, "the ring exists")
        return found[0]

    def take(self, ring: TickRing, until: Callable[[TickRing], bool]) -> list[tuple[int, float]]:
        """Read (sequence, price) of each tick until ``until`` is true and the ring is empty."""
        reader = _kernel.TickReader(ring.buffer, ring.register("test", LOSSLESS).slot)
        seen: list[tuple[int, float]] = []
        batch = np.zeros(1000, TICK_DTYPE)

        def consume() -> bool:
            over = until(ring)
            while count := reader.copy(batch):
                ticks = batch[:count]
                seen.extend(zip(ticks["seq"].tolist(), ticks["price"].tolist(), strict=True))
                reader.advance(count)
            return over

        eventually(consume, "the feed's end in the ring")
        return seen

    def stop(self) -> tuple[int, str]:
        """Send SIGTERM; returns exit code and log."""
        self.process.send_signal(signal.SIGTERM)
        log, _ = self.process.communicate(timeout=10)
        return self.process.returncode, log
