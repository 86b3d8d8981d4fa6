"""A book with symbols of every length, and the one view that shows only short ones."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.model.symbols import MAX_SYMBOL_BYTES
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.segment import SegmentError
from tests.support.children import SHM

FIXTURE = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
LISTS = st.lists(
    st.text("ABC123.", min_size=1, max_size=MAX_SYMBOL_BYTES), min_size=1, max_size=9, unique=True
)


@FIXTURE
@given(LISTS)
def test_all_methods_work(name: str, symbols: list[str]) -> None:
    with (
        SharedPriceBook(symbols, name) as book,
        SharedPriceBook(name=name, create=False) as view,
    ):
        assert view.get_symbols() == symbols
        prices = {symbol: float(n) for n, symbol in enumerate(symbols, 1)}
        book.update_multiple(prices)
        assert view.read_all() == prices
        assert [view.read(symbol) for symbol in symbols] == list(prices.values())
        assert view.last_prices.tolist() == list(prices.values())
        view.check(whole=True)
        long = [symbol for symbol in symbols if len(symbol) > 10]
        if long:
            with pytest.raises(ValueError, match=rf"^symbol '{long[0]}' has \d\d bytes; .prices"):
                _ = view.prices
        else:
            assert view.prices["symbol"].tolist() == [symbol.encode() for symbol in symbols]
            assert view.prices["price"].tolist() == list(prices.values())
        book.unlink()


def test_the_view_that_refuses_says_what_to_use(name: str) -> None:
    with SharedPriceBook(["AAPL", "BTC-USDT-PERP"], name) as book:
        with pytest.raises(ValueError) as refusal:  # noqa: PT011
            _ = book.prices
        assert str(refusal.value) == (
            "symbol 'BTC-USDT-PERP' has 13 bytes; .prices shows up to 10: "
            "use .read, .read_all or .last_prices"
        )
        book.update("BTC-USDT-PERP", 2.0)
        assert book.read("BTC-USDT-PERP") == 2.0


def test_the_prices_alone_are_a_live_read_only_view(name: str) -> None:
    with SharedPriceBook(["AAPL", "BTC-USDT-PERP"], name) as book:
        prices = book.last_prices
        assert (prices.dtype, prices.tolist()) == (np.dtype("f8"), [0.0, 0.0])
        book.update("BTC-USDT-PERP", 2.5)
        assert prices.tolist() == [0.0, 2.5]
        with pytest.raises(ValueError, match="read-only"):
            prices[0] = 1.0


def test_a_slot_is_two_cache_lines_whatever_its_symbol(name: str) -> None:
    symbols = [f"{number:032d}" for number in range(1000)]
    with SharedPriceBook(symbols, name) as book:
        assert book.nbytes == (SHM / name).stat().st_size == 1000 * 128 + 4096
        assert book.last_prices.strides == (128,)
        with pytest.raises(SegmentError, match="different symbols"):
            SharedPriceBook([*symbols[:-1], symbols[-1][:-1] + "X"], name, create=False)
