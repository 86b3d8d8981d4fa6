"""Helpers of the tests of the kernel, compiled and plain."""

import struct
from typing import Any

import numpy as np
import pytest

from app.kernel import _kernel
from app.kernel.plain import kernel as plain_kernel
from app.model.tick import TICK_DTYPE
from app.strategy.reference import MarketDataPoint, WindowedMovingAverageStrategy

SYMBOLS = [
    "A",
    "MSFT",
    *("12345678", "123456789", "1234567890", "12345678901", "123456789012", "1234567890123456"),
    *("BTC-USDT-PERP", "AAPL251219C00200000", "AAPL251219C00205000"),
    *("ABCDEFGHIJKLMNOPQRSTUVWXYZ12345", "ABCDEFGHIJKLMNOPQRSTUVWXYZ123456"),
]
"""Around each place where the parser or the table of symbols goes another way."""
LONG = "ABCDEFGHIJKLMNOPQRSTUVWXYZ1234567"
"""33 bytes: one too many."""
DAY_NS = 20362 * 86400 * 10**9
"""2025-10-01."""
LOSSLESS, LATEST = 1, 2

KERNELS = {"compiled": _kernel, "plain": plain_kernel} if _kernel.COMPILED else {"plain": _kernel}
"""All that there are on this machine."""
BOTH = pytest.fixture(params=list(KERNELS.values()), ids=list(KERNELS), scope="module")
"""Decorates the fixture ``kernel``: every test that uses it runs on both."""
needs_compiled = pytest.mark.skipif(
    not _kernel.COMPILED, reason="its subject is the compiled kernel, which is not there"
)

PLAIN_FIRST = """\
import sys

import app.kernel
from app.kernel.plain import kernel

app.kernel._kernel = sys.modules["app.kernel._kernel"] = kernel
"""
"""Code with which a process has the plain kernel where there is a compiled one."""


def refused() -> Any:
    """Expect ValueError, whatever it says."""
    return pytest.raises(ValueError)  # noqa: PT011


def book_image(symbols: list[str]) -> bytearray:
    """A new book's bytes."""
    image = bytearray(4096 + len(symbols) * 128)
    struct.pack_into("<8sIIIIQ", image, 0, b"PRICBOOK", 3, 128, len(symbols), 0, 7)
    for i, symbol in enumerate(symbols):
        struct.pack_into("32s", image, 4096 + i * 128 + 64, symbol.encode())
    return image


def ring_image(capacity: int) -> bytearray:
    """A new lossless ring's bytes."""
    image = bytearray(8192 + capacity * 32)
    struct.pack_into("<8sIIQQI", image, 0, b"TICKRING", 3, 32, capacity, 7, LOSSLESS)
    struct.pack_into("<Q", image, 88, 2**64 - 1)
    return image


def padded(data: bytes) -> bytearray:
    """A parse buffer; the bytes after the data look like its continuation."""
    return bytearray(data + b"5" * _kernel.PARSE_SLACK_BYTES)


def feed(*prices: float, symbol: str = "A") -> bytes:
    """One tick per price, one second apart."""
    texts = (
        f"2025-10-01 09:{i // 60:02d}:{i % 60:02d}*{symbol}*{price!r}*"
        for i, price in enumerate(prices)
    )
    return "".join(texts).encode()


def records(*rows: tuple[int, int, float]) -> Any:
    """Ticks of (event_ns, symbol, value)."""
    ticks = np.zeros(len(rows), TICK_DTYPE)
    for i, (event_ns, symbol, value) in enumerate(rows):
        ticks[i] = (event_ns, value, i, 0, symbol, 0)
    return ticks


def reference_signals(ticks: Any, short: int, long: int) -> list[int]:
    """The moving averages' signals by the strategy in plain Python."""
    plain, numbers = WindowedMovingAverageStrategy(short, long), {"BUY": 1, "SELL": -1, "HOLD": 0}
    points = [MarketDataPoint(0, str(tick["symbol"]), float(tick["price"])) for tick in ticks]
    return [numbers[plain.on_tick(point)] for point in points]
