"""Helpers of the tests of kernel and twin."""

from typing import Any

import numpy as np
import pytest

from app.kernel import _kernel
from app.model.tick import TICK_DTYPE
from tests.support.kernel import twin as kernel_twin

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

BOTH = pytest.fixture(params=[_kernel, kernel_twin], ids=["compiled", "twin"], scope="module")
"""Decorates the fixture ``kernel``: every test that uses it runs on both."""


def refused() -> Any:
    """Expect ValueError; the twin's messages differ, so no match."""
    return pytest.raises(ValueError)  # noqa: PT011


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
