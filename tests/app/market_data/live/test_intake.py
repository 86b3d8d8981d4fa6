"""Which trades become ticks, and what is counted."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.market_data.live.intake import AHEAD_NS_MAX, RENUMBERED, Gap, Intake
from app.market_data.live.records import NO_ID, TRADE, Records

NOW = 1_700_000_000 * 10**9
Row = tuple[int, int, int]
"""Symbol, id, exchange's time."""


def trades(rows: list[Row]) -> Records:
    return np.array([(ns, NOW, 10**9, number, 1.0, symbol) for symbol, number, ns in rows], TRADE)


def test_gaps_are_counted_for_each_symbol() -> None:
    taken = Intake(2).take(trades([(0, 5, NOW), (1, 90, NOW), (0, 8, NOW), (1, 91, NOW)]))
    assert taken.gaps == [Gap(0, 5, 2)]
    assert taken.ticks["trade_id"].tolist() == [5, 90, 8, 91]


def test_repeated_and_late_trades_are_dropped() -> None:
    taken = Intake(1).take(trades([(0, n, NOW) for n in (5, 6, 6, 5, 7, 4, 8)]))
    assert taken.ticks["trade_id"].tolist() == [5, 6, 7, 8]
    assert taken.repeated == 3
    assert not taken.gaps


def test_trades_without_ids_are_all_taken() -> None:
    taken = Intake(1).take(trades([(0, NO_ID, NOW)] * 3))
    assert len(taken.ticks) == 3
    assert not taken.repeated


def test_a_forged_id_does_not_shut_out_the_trades_after_it() -> None:
    intake = Intake(1)
    taken = intake.take(trades([(0, 5, NOW), (0, 1 << 61, NOW), (0, 6, NOW), (0, 7, NOW)]))
    assert taken.ticks["trade_id"].tolist() == [5, 1 << 61, 6, 7]
    assert taken.renumbered == [0]
    assert RENUMBERED < 1 << 61


def test_time_never_goes_back_and_both_times_are_kept() -> None:
    times = [NOW, NOW - 5, NOW - 1, NOW + 3]
    taken = Intake(1).take(trades([(0, n, ns) for n, ns in enumerate(times)]))
    assert taken.ticks["event_ns"].tolist() == [NOW, NOW, NOW, NOW + 3]
    assert taken.ticks["exchange_ns"].tolist() == times
    assert taken.late == 2


def test_a_time_far_ahead_would_hold_all_others_up_so_it_is_refused() -> None:
    ahead = NOW + AHEAD_NS_MAX + 1
    taken = Intake(1).take(trades([(0, 1, ahead), (0, 2, NOW)]))
    assert taken.ticks["event_ns"].tolist() == [NOW]
    assert [each.ahead_ns for each in taken.ahead] == [AHEAD_NS_MAX + 1]
    assert not taken.gaps, "its id is not believed either"


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), st.integers(NOW - 9, NOW + 9))),
    st.data(),
)
def test_a_restart_anywhere_changes_nothing(rows: list[Row], data: st.DataObject) -> None:
    """Of a session that went on from what its predecessor had recorded."""
    whole = Intake(3).take(trades(rows))
    cut = data.draw(st.integers(0, len(rows)))
    first = Intake(3)
    before = first.take(trades(rows[:cut]))
    second = Intake(3)
    last_ids = [NO_ID] * 3
    for tick in before.ticks:
        last_ids[tick["symbol"]] = int(tick["trade_id"])
    last_ns = int(before.ticks["event_ns"][-1]) if len(before.ticks) else second.last_ns
    second.restore(last_ids, last_ns)
    after = second.take(trades(rows[cut:]))
    assert [*before.ticks.tolist(), *after.ticks.tolist()] == whole.ticks.tolist()
    assert before.gaps + after.gaps == whole.gaps
    assert before.repeated + after.repeated == whole.repeated


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), st.integers(NOW - 9, NOW + 9))))
def test_ids_rise_times_do_not_fall_and_every_trade_is_accounted_for(rows: list[Row]) -> None:
    taken = Intake(3).take(trades(rows))
    assert len(taken.ticks) + taken.repeated == len(rows)
    assert (np.diff(taken.ticks["event_ns"]) >= 0).all()
    for symbol in range(3):
        ids = taken.ticks["trade_id"][taken.ticks["symbol"] == symbol]
        assert (np.diff(ids) > 0).all()
        missing = sum(gap.missing for gap in taken.gaps if gap.symbol == symbol)
        if len(ids):
            assert int(ids[-1] - ids[0]) + 1 == len(ids) + missing
