"""Signals with latency: ticks whose times go back, and many symbols in short pieces."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.settings import Settings
from app.strategy.base import Strategy
from app.strategy.kit import transit
from tests.app.strategy.kit.latency.test_signals_in_transit import (
    KINDS,
    MS,
    Scripted,
    drive,
    naive,
    ticks_of,
)

rows = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from([0, 1, 2, 5, -1, -4]),
        st.sampled_from([99.9, 100.0, 100.1]),
        st.sampled_from([1, -1, 2, 0, 1, -1]),
    ),
    min_size=1,
    max_size=80,
)
"""Symbol, milliseconds since the tick before, which may be negative, price, signal."""


def jumping(made: list[Any]) -> tuple[Any, list[int]]:
    ticks, script = ticks_of(made)
    ticks["event_ns"] += 1000 * MS
    return ticks, script


def settings_of(latency_ms: float, *, every: bool) -> Settings:
    mode = "every" if every else "position"
    return Settings(paper_latency_ms=latency_ms, order_mode=mode)  # type: ignore[arg-type]


@pytest.mark.parametrize("short", [0, 64])
@given(
    rows,
    st.lists(st.integers(1, 80), max_size=6),
    st.sampled_from([0.000001, 1.0, 2.0, 7.0]),
    st.booleans(),
    st.sampled_from(KINDS),
)
def test_times_that_go_back_give_the_same_orders_however_they_are_batched(
    short: int,
    made: list[Any],
    cut: list[int],
    latency_ms: float,
    every: bool,
    kind: type[Strategy],
) -> None:
    """``short``: pieces up to this length are looped over, longer ones go to numpy."""
    ticks, script = jumping(made)
    settings = settings_of(latency_ms, every=every)
    expected, left, _ = naive(ticks, script, round(latency_ms * MS), every=every)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transit, "_SHORT", short)
        for pieces in (cut, list(range(len(ticks)))):
            engine, found = drive(kind, ticks, script, pieces, settings)
            assert found == expected
            assert engine.context.in_transit == left


@given(
    rows,
    st.lists(st.integers(1, 80), max_size=6),
    st.sampled_from([1.0, 3.0, 7.0]),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from(KINDS),
)
def test_without_room_in_transit_a_decision_has_no_order_and_the_run_goes_on(
    made: list[Any], cut: list[int], latency_ms: float, room: int, every: bool, kind: type[Strategy]
) -> None:
    """The same ones however ticks are batched; each is counted and told."""
    ticks, script = jumping(made)
    settings = settings_of(latency_ms, every=every)
    expected, left, _ = naive(ticks, script, round(latency_ms * MS), every=every, room=room)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transit, "IN_TRANSIT_MAX", room)
        refused = set()
        for pieces in (cut, [], list(range(len(ticks)))):
            engine, found = drive(kind, ticks, script, pieces, settings)
            assert found == expected
            assert engine.context.in_transit == left
            refused.add(engine.context.transit_refused)
    assert len(refused) == 1


def test_each_decision_without_room_is_counted_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transit, "IN_TRANSIT_MAX", 4)
    told: list[int] = []
    start = transit.Transit.__init__

    def listening(self: transit.Transit, *arguments: Any) -> None:
        start(self, *arguments)
        self.on_refused = lambda intent: told.append(intent.seq)

    monkeypatch.setattr(transit.Transit, "__init__", listening)
    ticks, script = jumping([(0, 1, 100.0, 1)] * 6)
    engine, found = drive(Scripted, ticks, script, [], settings_of(1000.0, every=True))
    assert (found, told, engine.context.transit_refused) == ([], [4, 5], 2)
    assert engine.context.in_transit == 4


def test_a_tick_whose_time_goes_back_counts_as_of_the_latest_time_of_its_symbol() -> None:
    made = [(0, 10, 100.0, 0), (0, -9, 101.0, 1), (0, 6, 102.0, 0), (0, 5, 103.0, 0)]
    ticks, script = jumping(made)
    for cut in ([], [1, 2, 3]):
        _, found = drive(Scripted, ticks, script, cut, Settings(paper_latency_ms=2.0))
        assert [(order.tick, order.price) for order in found] == [(3, 103.0)]


def test_a_piece_costs_what_its_ticks_do_however_many_symbols_are_in_transit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only symbols of the piece are looked at."""
    mine = transit.Transit(transit.Latency(1000.0), [str(index) for index in range(2000)])
    ticks, _ = jumping([(index % 2000, 0, 100.0, 0) for index in range(2200)])
    looked: list[int] = []
    reach = transit.Transit._reach

    def counted(self: transit.Transit, index: int) -> None:
        looked.append(index)
        reach(self, index)

    monkeypatch.setattr(transit.Transit, "_reach", counted)
    waits = transit.Decided(int(ticks["event_ns"][0]) + 1, 1, 1, 0)
    mine._orders = {index: transit.deque([waits]) for index in range(2000)}

    def show(piece: Any) -> None:
        def decide(_ticks: Any, signals: Any, _start: int) -> tuple[list[Any], int]:
            return [], len(signals)

        signals = np.zeros(len(piece), np.int8)
        assert list(mine.groups(piece, signals, decide, None, lambda: None, 1)) == []  # type: ignore[arg-type]

    for at in range(100):
        show(ticks[at : at + 1])
    assert looked == list(range(100))
    show(ticks[100:300])
    assert len(looked) == 300
