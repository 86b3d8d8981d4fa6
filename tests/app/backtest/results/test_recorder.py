"""The recorder against a plain walk over the ticks, however they are cut and filled."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.backtest.result import Curve, Fill
from app.backtest.results import recorder as recorder_module
from app.backtest.results.recorder import SERIES, Recorder
from app.backtest.results.tables import realised
from app.model.position import Position
from app.model.tick import TICK_DTYPE

HOUR_NS = 3600 * 10**9


def make_ticks(seed: int, count: int, symbols: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    ticks = np.zeros(count, TICK_DTYPE)
    ticks["seq"] = np.arange(count)
    ticks["event_ns"] = np.sort(rng.integers(0, 72 * HOUR_NS, count))
    ticks["symbol"] = rng.integers(0, symbols, count)
    ticks["price"] = np.round(rng.uniform(50, 150, count), 2)
    return ticks


def make_fills(seed: int, ticks: np.ndarray[Any, Any], count: int, symbols: int) -> list[Fill]:
    """Also several on one tick, and of another symbol than the tick's, if it has a price."""
    rng = np.random.default_rng(seed + 1)
    seqs = np.sort(rng.integers(0, len(ticks), count))
    fills = []
    for seq in seqs.tolist():
        seen = set(ticks["symbol"][: seq + 1].tolist())
        symbol = int(rng.integers(0, symbols))
        symbol = symbol if symbol in seen else int(ticks["symbol"][seq])
        qty = int(rng.choice([-7, -3, 2, 5]))
        price, borrow = float(rng.integers(5000, 15000)) / 100, float(rng.integers(0, 3))
        short, event_ns = float(rng.integers(0, 2) * 1000), int(ticks["event_ns"][seq])
        fills.append(
            Fill(seq, symbol, qty, price, 0.25, 0.0, 0.0, borrow, short, event_ns, 0.0, qty)
        )
    return fills


def walk(ticks: np.ndarray[Any, Any], fills: list[Fill], symbols: int) -> list[dict[str, float]]:
    """Every series after each tick, one tick after the other; and of each fill."""
    last, first, qty = dict[int, float](), dict[int, float](), defaultdict[int, int](int)
    sums = dict.fromkeys(("cash", "turnover", "fees", "charged"), 0.0)
    last_ns, shorts = dict[int, int](), dict[int, Fill]()
    by_tick = defaultdict(list)
    for fill in fills:
        by_tick[fill.seq].append(fill)
    rows = []
    for tick in ticks:
        symbol, price = int(tick["symbol"]), float(tick["price"])
        last[symbol], last_ns[symbol] = price, int(tick["event_ns"])
        first.setdefault(symbol, price)
        for fill in by_tick[int(tick["seq"])]:
            qty[fill.symbol_index] += fill.signed_qty
            sums["cash"] -= fill.signed_qty * fill.price + fill.fee
            sums["turnover"] += abs(fill.signed_qty) * fill.price
            sums["fees"] += fill.fee
            sums["charged"] += fill.borrow
            shorts[fill.symbol_index] = fill
        row = dict(sums)
        owed_ns = {s: max(last_ns.get(s, 0) - fill.event_ns, 0) for s, fill in shorts.items()}
        owed = sum(fill.short * owed_ns[s] for s, fill in shorts.items())
        row["borrow"] = row.pop("charged") + owed * 365 / (365 * 24 * HOUR_NS) / 10_000
        row["holdings"] = sum(qty[s] * last[s] for s in last)
        row["exposure_gross"] = sum(abs(qty[s]) * last[s] for s in last)
        row["benchmark"] = sum(last[s] / first[s] if s in last else 1.0 for s in range(symbols))
        row["benchmark"] /= symbols
        rows.append(row)
    return rows


def record(
    ticks: np.ndarray[Any, Any], fills: list[Fill], symbols: int, cut: int, rows_max: int
) -> Recorder:
    made = Recorder(symbols, len(ticks), rows_max, 365 * 10**9)
    for start in range(0, len(ticks), cut):
        piece = ticks[start : start + cut].copy()
        made.take(piece, [fill for fill in fills if start <= fill.seq < start + cut])
        piece["price"] = -1  # The caller's memory is used again.
    made.close()
    return made


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 300),
    symbols=st.integers(1, 6),
    orders=st.integers(0, 60),
    cut=st.sampled_from([1, 7, 64, 1000]),
    flush=st.sampled_from([1, 50, 8192]),
    rows_max=st.sampled_from([1, 10, 1000]),
)
def test_every_row_is_that_of_a_plain_walk(
    seed: int, count: int, symbols: int, orders: int, cut: int, flush: int, rows_max: int
) -> None:
    ticks = make_ticks(seed, count, symbols)
    fills = make_fills(seed, ticks, orders, symbols)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder_module, "FLUSH_TICKS", flush)
        found = record(ticks, fills, symbols, cut, rows_max)
    expected = walk(ticks, fills, symbols)
    step = -(-count // rows_max)
    days = ticks["event_ns"] // (24 * HOUR_NS)
    ends = {i for i in range(count) if i == count - 1 or days[i] != days[i + 1]}
    seqs = sorted(ends | set(range(step - 1, count, step)))
    assert found.seq.tolist() == seqs
    assert found.event_ns.tolist() == ticks["event_ns"][seqs].tolist()
    for name in SERIES:
        plain = [expected[seq][name] for seq in seqs]
        np.testing.assert_allclose(found.series[name], plain, rtol=1e-9, atol=1e-7, err_msg=name)
    assert found.fills == fills
    held, last = defaultdict[int, int](int), dict[int, float]()
    at = 0
    for tick in ticks:
        last[int(tick["symbol"])] = float(tick["price"])
        while at < len(fills) and fills[at].seq == tick["seq"]:
            symbol = fills[at].symbol_index
            held[symbol] += fills[at].signed_qty
            assert found.fill_position[at] == held[symbol]
            assert found.fill_market[at] == last[symbol]
            assert found.fill_ns[at] == tick["event_ns"]
            at += 1
    assert at == len(fills)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 400),
    symbols=st.integers(1, 5),
    flush=st.sampled_from([1, 33, 8192]),
    buckets=st.sampled_from([3, 40, 600]),
)
def test_a_price_path_has_the_lowest_and_highest_tick_of_each_bucket(
    seed: int, count: int, symbols: int, flush: int, buckets: int
) -> None:
    ticks = make_ticks(seed, count, symbols)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder_module, "FLUSH_TICKS", flush)
        patch.setattr(recorder_module, "BUCKETS_MAX", buckets)
        patch.setattr(recorder_module, "BUCKETS_MIN", 1)
        found = record(ticks, [], symbols, 50, 1000)
    size = -(-count // buckets)
    for symbol in range(symbols):
        path = found.prices(symbol)
        mine = ticks[ticks["symbol"] == symbol]
        real = set(zip(mine["event_ns"].tolist(), mine["price"].tolist(), strict=True))
        drawn = list(zip(path.event_ns.tolist(), path.price.tolist(), strict=True))
        assert set(drawn) <= real
        assert path.event_ns.tolist() == sorted(path.event_ns.tolist())
        expected = set()
        for bucket in set((mine["seq"] // size).tolist()):
            part = mine[mine["seq"] // size == bucket]
            for best in (np.argmin(part["price"]), np.argmax(part["price"])):
                expected.add((int(part["event_ns"][best]), float(part["price"][best])))
        assert set(drawn) == expected
        assert len(drawn) <= 2 * buckets


def test_it_ends_where_the_curve_ends() -> None:
    ticks = make_ticks(9, 5000, 4)
    fills = make_fills(9, ticks, 400, 4)
    found, curve = record(ticks, fills, 4, 512, 700), Curve(4, len(ticks), borrow_rate=365 * 10**9)
    curve.take(ticks, fills)
    curve.close()
    profit = found.series["cash"] + found.series["holdings"] - found.series["borrow"]
    assert profit[-1] == pytest.approx(curve.equity[-1], rel=1e-9)
    day = found.event_ns // (24 * HOUR_NS)
    last = np.flatnonzero(np.diff(day, append=-1))
    np.testing.assert_allclose(profit[last], curve.daily.profit, rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(found.series["benchmark"][last], curve.daily.benchmark, rtol=1e-12)


@pytest.mark.parametrize("cut", [1, 1000])
def test_a_large_holding_that_is_sold_leaves_nothing(cut: int, monkeypatch: Any) -> None:
    """Its parts are floats that have lost digits; what is held is summed in units."""
    monkeypatch.setattr(recorder_module, "FLUSH_TICKS", cut)
    ticks = make_ticks(1, 8, 1)
    parts = [12_345_678_123_456_789, 987_654_321_987_654_321, 7]
    traded = [*parts, -sum(parts), -parts[0], parts[0]]
    made = Recorder(1, len(ticks), decimals=9)
    fills = [
        Fill(seq, 0, units / 10**9, 100.0, signed_units=units) for seq, units in enumerate(traded)
    ]
    for start in range(0, len(ticks), cut):
        part = [fill for fill in fills if start <= fill.seq < start + cut]
        made.take(ticks[start : start + cut], part)
    made.close()
    held = [sum(traded[: place + 1]) / 10**9 for place in range(len(traded))]
    assert made.fill_position.tolist() == held
    assert (held[3], held[5]) == (0.0, 0.0)
    if cut == 1:
        assert made.series["holdings"][[3, 6, 7]].tolist() == pytest.approx([0, 0, 0], abs=1e-3)
    assert made.series["holdings"][-1] == pytest.approx(0, abs=1e-3)
    symbol, qty = np.zeros(6, np.int64), np.array([fill.signed_qty for fill in fills])
    flat = realised(symbol, qty, np.full(6, 100.0), np.zeros(6), made.fill_position)
    assert flat.tolist() == pytest.approx([0.0] * 6, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([-9, -4, 1, 3]), st.integers(1, 999))))
def test_realised_profit_is_that_of_the_positions(rows: list[tuple[int, int, int]]) -> None:
    """Within the rounding of a position's account, which is exact only when it is flat."""
    held = [Position() for _ in range(3)]
    expected = []
    for symbol, qty, price in rows:
        before = held[symbol].realized
        held[symbol].charge(10**8, 0, 0, 0)
        held[symbol].apply(1 if qty > 0 else -1, abs(qty), price * 10**9)
        expected.append((held[symbol].realized - before) / 1e9)
    columns = [np.array([row[place] for row in rows], np.float64) for place in range(3)]
    position, after = defaultdict[int, float](float), []
    for symbol, qty, _ in rows:
        position[symbol] += qty
        after.append(position[symbol])
    paid = np.full(len(rows), 0.1)
    found = realised(columns[0].astype(np.int64), *columns[1:], paid, np.array(after, np.float64))
    np.testing.assert_allclose(found, expected, atol=1e-6)
