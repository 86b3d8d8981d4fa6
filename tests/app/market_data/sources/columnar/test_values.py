"""Prices, times and symbols of typed columns; the expectation is Python's own arithmetic."""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.market_data.sources.columnar.arrow_memory import ArrowColumn
from app.market_data.sources.columnar.price_values import price_units
from app.market_data.sources.columnar.symbol_values import sentiment_values, symbol_indices
from app.market_data.sources.columnar.time_values import event_times
from app.market_data.sources.symbol_table import SymbolTable
from app.market_data.sources.timestamp_texts import TimestampReader
from app.market_data.tick_table import NO_VALUE
from app.model.money import MAX_PRICE
from app.model.timestamps import MAX_EVENT_NS, MIN_EVENT_NS, parse_timestamp

pa: Any = pytest.importorskip("pyarrow")
READER = TimestampReader()
SMALLEST = Decimal("1e-9")


def column(values: Any, kind: Any = None) -> ArrowColumn:
    """A column that begins in the middle of a longer array, so that offsets count."""
    head = [None] * 3
    return ArrowColumn.of(pa.array([*head, *values], kind).slice(len(head)))


def expected_units(price: Decimal) -> int | None:
    """Money units, or None if this is no price."""
    if not price.is_finite() or not SMALLEST <= price <= MAX_PRICE:
        return None
    return int((price * 10**9).to_integral_value(ROUND_HALF_EVEN))


def check_prices(values: list[Any], kind: Any, exact: list[Decimal]) -> None:
    units, bad = price_units(column(values, kind), "any")
    for row, price in enumerate(exact):
        wanted = expected_units(price)
        assert (row in bad) == (wanted is None), (price, bad.get(row))
        if wanted is not None:
            assert units[row] == wanted, price


@settings(deadline=None)
@given(st.lists(st.floats(width=64), min_size=1))
def test_any_float64_is_the_number_that_python_shows(values: list[float]) -> None:
    check_prices(values, pa.float64(), [Decimal(repr(value)) for value in values])


@settings(deadline=None)
@given(st.lists(st.decimals("1e-9", 9_000_000_000, places=9), min_size=1))
def test_a_price_in_float64_is_the_price_that_was_meant(prices: list[Decimal]) -> None:
    values = [float(price) for price in prices]
    check_prices(values, pa.float64(), [Decimal(repr(value)) for value in values])
    short = [round(price, 4) for price in prices if price < 10**9]
    check_prices([float(price) for price in short], pa.float64(), short)


@settings(deadline=None)
@given(st.lists(st.floats(width=32), min_size=1))
def test_any_float32_is_the_shortest_number_with_that_float(values: list[float]) -> None:
    """A whole one is itself: NumPy shows 979456064 as 979456060, which has the same float."""
    numbers = np.array(values, np.float32)
    exact = [
        Decimal(int(number)) if np.isfinite(number) and number % 1 == 0 else Decimal(str(number))
        for number in numbers
    ]
    check_prices(list(numbers), pa.float32(), exact)


def test_a_whole_float32() -> None:
    check_prices([np.float32(979456064)], pa.float32(), [Decimal(979456064)])


def test_every_float16_is_the_shortest_number_with_that_float() -> None:
    numbers = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    check_prices(list(numbers), pa.float16(), [Decimal(str(number)) for number in numbers])


KINDS = [pa.int8(), pa.int16(), pa.int32(), pa.int64()]
KINDS += [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]


@settings(deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_integers(kind: Any, data: st.DataObject) -> None:
    limits = np.iinfo(kind.to_pandas_dtype())
    values = data.draw(st.lists(st.integers(int(limits.min), int(limits.max)), min_size=1))
    check_prices(values, kind, [Decimal(value) for value in values])


@settings(deadline=None)
@given(st.integers(0, 20), st.sampled_from(["decimal128", "decimal256"]), st.data())
def test_fixed_point_numbers(scale: int, kind: str, data: st.DataObject) -> None:
    price = st.decimals(-(10**10), 10**10, places=scale)
    values = data.draw(st.lists(price, min_size=1))
    check_prices(values, getattr(pa, kind)(38, scale), values)


@pytest.mark.parametrize("kind", ["decimal32", "decimal64"])
def test_narrow_fixed_point_numbers(kind: str) -> None:
    values = [Decimal("173.25"), Decimal("0.01"), Decimal("-1.00"), Decimal(0)]
    check_prices(values, getattr(pa, kind)(9, 2), values)


def test_prices_as_text_and_what_is_none() -> None:
    units, bad = price_units(column(["12.50", " 3 ", "x", "", None, "1e-3"]), "string")
    assert units[[0, 1, 5]].tolist() == [12_500_000_000, 3_000_000_000, 1_000_000]
    assert bad == {
        2: (b"x", "not a number"),
        3: (b"", "missing"),
        4: (b"", "missing"),
    }
    with pytest.raises(ValueError, match="is of type bool, not a number"):
        price_units(column([True]), "bool")


@settings(deadline=None)
@given(st.lists(st.integers(MIN_EVENT_NS, MAX_EVENT_NS), min_size=1))
def test_timestamps_of_any_unit_and_zone(times: list[int]) -> None:
    for unit, step in (("ns", 1), ("us", 10**3), ("ms", 10**6), ("s", 10**9)):
        counts = [max(ns // step, MIN_EVENT_NS // step + 1) for ns in times]
        for zone in (None, "UTC", "America/New_York", "+05:30"):
            found, bad = event_times(column(counts, pa.timestamp(unit, zone)), "any", READER)
            assert found.tolist() == [count * step for count in counts]
            assert not bad


def test_a_time_that_int64_nanoseconds_cannot_hold() -> None:
    found, bad = event_times(column([0, 1 << 62, None], pa.timestamp("s")), "any", READER)
    assert found[0] == 0
    assert bad == {
        1: (b"%d" % (1 << 62), "outside the years 1678 to 2261"),
        2: (b"", "missing"),
    }


@settings(deadline=None)
@given(st.dates(datetime(1700, 1, 1).date(), datetime(2200, 1, 1).date()))
def test_dates(day: Any) -> None:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    for kind in (pa.date32(), pa.date64()):
        found, bad = event_times(column([day], kind), "any", READER)
        assert (found.tolist(), bad) == ([start // timedelta(microseconds=1) * 1000], {})


@pytest.mark.parametrize("scale", [1, 10**3, 10**6, 10**9])
def test_a_number_tells_its_unit_by_its_size(scale: int) -> None:
    at = 1_759_311_000
    for value, kind in ((at, pa.int64()), (at, pa.uint64()), (float(at), pa.float64())):
        found, bad = event_times(column([value * scale], kind), "any", READER)
        assert (found.tolist(), bad) == ([at * 10**9], {})
    found, _ = event_times(column([1_759_311_000.25]), "any", READER)
    assert found.tolist() == [at * 10**9 + 250_000_000]


def test_a_number_that_may_be_something_else_is_never_a_time_in_1970() -> None:
    """Milliseconds since midnight, or YYYYMMDD; with TIMESTAMP_FORMAT it is what it says."""
    values = [34_200_000, 20251001, -5]
    found, bad = event_times(column(values), "any", READER)
    assert sorted(bad) == [0, 1, 2]
    assert "TIMESTAMP_FORMAT" in bad[0][1]
    found, bad = event_times(column(values), "any", TimestampReader("ms"))
    assert (found.tolist(), bad) == ([value * 10**6 for value in values], {})
    at_midnight = TimestampReader("", "2025-10-01")
    found, bad = event_times(column(values[:1]), "any", at_midnight)
    assert (found.tolist(), bad) == ([1_759_311_000_000_000_000], {})


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_times_and_symbols_as_text(kind: Any) -> None:
    texts = ["2025-10-01 09:30:00.5", "2025-10-01T09:30:00+02:00", "soon", "", None]
    found, bad = event_times(column(texts, kind), "any", READER)
    assert found[:2].tolist() == [parse_timestamp(text.encode())[0] for text in texts[:2] if text]
    reasons = {row: reason.partition(";")[0] for row, (_, reason) in bad.items()}
    assert reasons == {
        2: "not a timestamp",
        3: "missing",
        4: "missing",
    }
    table = SymbolTable()
    names = ["MSFT", " AAPL ", "MSFT", "A*B", "", None]
    index, bad = symbol_indices(column(names, kind), "any", table)
    assert [table.names[at] for at in index[:3]] == ["MSFT", "AAPL", "MSFT"]
    assert sorted(bad) == [3, 4, 5]


@settings(deadline=None)
@given(st.lists(st.sampled_from(["AAPL", "MSFT", "X1", "A*B", "", None]), min_size=1))
def test_symbols_of_a_dictionary_are_those_of_plain_text(names: list[str | None]) -> None:
    plain, coded = SymbolTable(), SymbolTable()
    wanted, wanted_bad = symbol_indices(column(names, pa.string()), "any", plain)
    index, bad = symbol_indices(
        column(names, pa.dictionary(pa.int8(), pa.large_string())), "any", coded
    )
    assert bad == wanted_bad
    good = [row for row in range(len(names)) if row not in bad]
    assert [coded.names[at] for at in index[good]] == [plain.names[at] for at in wanted[good]]
    assert all(names[row] == coded.names[index[row]] for row in good)


def test_sentiments() -> None:
    for values, kind in (
        ([0, 100, 101, None], pa.int32()),
        ([0.0, 100.0, 0.5, float("nan")], pa.float64()),
        (["0", "100", "x", ""], pa.string()),
    ):
        found, bad = sentiment_values(column(values, kind), "any", False)
        assert found[[0, 1, 3]].tolist() == [0, 100, NO_VALUE]
        assert list(bad) == [2]
        _, bad = sentiment_values(column(values, kind), "any", True)
        assert sorted(bad) == [2, 3]
