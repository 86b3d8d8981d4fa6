"""Symbols of every length: both parsers against a plain split, book and ring behind them."""

from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.kernel import _kernel
from app.kernel.plain import kernel as plain_kernel
from app.model.symbols import MAX_SYMBOL_BYTES
from app.model.tick import TICK_DTYPE
from tests.support.kernel.helpers import BOTH, KERNELS, book_image, padded, ring_image

LIMIT = settings(max_examples=150, deadline=None, derandomize=True)
LETTERS = st.text("AB01.-", min_size=1, max_size=MAX_SYMBOL_BYTES)
"""Few letters, so that symbols begin or end alike."""
ALIKE = st.builds(
    lambda head, at, letter: head[:at] + letter + head[at + 1 :],
    st.sampled_from(["A" * length for length in range(1, MAX_SYMBOL_BYTES + 1)]),
    st.integers(0, MAX_SYMBOL_BYTES - 1),
    st.sampled_from("BC"),
).map(lambda text: text[:MAX_SYMBOL_BYTES])
"""One letter differs, at any place."""
SYMBOLS = st.lists(st.one_of(LETTERS, ALIKE), min_size=1, max_size=12, unique=True)
HEAD = "2025-10-01 09:30:00*"


def by_split(data: bytes, symbols: list[str]) -> tuple[list[int], bool]:
    """Index of each tick's symbol, up to the first that is not in the list, and whether one is."""
    found = []
    for symbol in data.decode().split("*")[1::3]:
        if symbol not in symbols:
            return found, True
        found.append(symbols.index(symbol))
    return found, False


def parsed(kernel: Any, data: bytes, symbols: list[str]) -> tuple[list[int], bool]:
    """The same by a kernel."""
    out = np.zeros(200, TICK_DTYPE)
    parser = kernel.FieldParser(symbols)
    count, _, stop = kernel.parse_ticks(parser, padded(data), 0, len(data), out)
    return out["symbol"][:count].tolist(), stop == kernel.BAD_SYMBOL


@LIMIT
@given(SYMBOLS, st.lists(st.tuples(st.integers(0, 11), st.one_of(LETTERS, ALIKE)), max_size=40))
def test_every_symbol_is_found_and_no_other(
    symbols: list[str], ticks: list[tuple[int, str]]
) -> None:
    rows = [symbols[at] if at < len(symbols) else other for at, other in ticks]
    data = "".join(f"{HEAD}{symbol}*173.20*" for symbol in rows).encode()
    wanted = by_split(data, symbols)
    assert parsed(plain_kernel, data, symbols) == wanted
    for vectors in (True, False):
        before = _kernel.use_vectors(vectors)
        try:
            assert parsed(_kernel, data, symbols) == wanted
        finally:
            _kernel.use_vectors(before)


@LIMIT
@given(SYMBOLS, st.lists(st.integers(0, 11), min_size=1, max_size=30))
def test_book_and_ring_have_the_ticks_of_each(symbols: list[str], at: list[int]) -> None:
    rows = [symbols[each % len(symbols)] for each in at]
    data = "".join(f"{HEAD}{symbol}*{n}*" for n, symbol in enumerate(rows, 1)).encode()
    for kernel in KERNELS.values():
        ring, book = ring_image(64), book_image(symbols)
        writer = kernel.TickWriter(ring, book, kernel.FieldParser(symbols))
        assert writer.push(padded(data), 0, len(data), 1000)[0] == len(rows)
        view = kernel.BookView(book)
        for index, symbol in enumerate(symbols):
            prices = [n for n, other in enumerate(rows, 1) if other == symbol]
            assert (view.get(index) or (None,))[0] == (prices[-1] if prices else None)
        writer.set_reader(0, 1, 0, "reader")
        out = np.zeros(64, TICK_DTYPE)
        count = kernel.TickReader(ring, 0).copy(out)
        assert [symbols[index] for index in out["symbol"][:count]] == rows
        slots = np.frombuffer(book, "S32, S32, S32, S32", offset=_kernel.BOOK_HEADER_BYTES)
        assert [name.decode() for name in slots["f2"]] == symbols


@BOTH
def kernel(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_symbols_with_the_same_key_are_told_apart(kernel: Any) -> None:
    """So many that some have the same 26 bits of a hash: of 65,000, about thirty pairs."""
    random = Random(7)
    symbols = [f"AAPL2512{random.randrange(10**19):019d}" for _ in range(65_000)]
    data = "".join(f"{HEAD}{symbol}*1*" for symbol in symbols).encode()
    out = np.zeros(len(symbols), TICK_DTYPE)
    parser = kernel.FieldParser(symbols)
    count, _, _ = kernel.parse_ticks(parser, padded(data), 0, len(data), out)
    assert count == len(symbols)
    assert (out["symbol"] == np.arange(len(symbols))).all()
    others = "".join(f"{HEAD}{symbol[:-1]}X*1*" for symbol in symbols[::10])
    for other in others.split("*1*")[:-1]:
        text = f"{other}*1*".encode()
        assert kernel.parse_ticks(parser, padded(text), 0, len(text), out)[0] == 0
