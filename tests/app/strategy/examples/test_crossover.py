"""The crossover: with the trend after the band, not before; wrong windows are refused."""

import pytest

from app.runtime.run.strategy_params import ParamError
from tests.app.strategy.examples.crafted import Trade, play

FILE = "crossover.py:Crossover"
PARAMS = "short=2 long=4 band_bps=10"


def test_it_turns_with_the_trend() -> None:
    up, down = [100.0, 100.0, 100.0, 100.0, 101.0, 102.0], [101.0, 99.0, 97.0, 95.0]
    trades, _ = play(FILE, [("A", price) for price in up + down], PARAMS, order_qty=10)
    # Averages at tick 4: 100.5 and 100.25, apart 25 bps; they cross down by more than 10 at tick 7:
    # 100 against 100.75.
    assert trades == [Trade(4, "A", 10, 101.0), Trade(7, "A", -20, 99.0)]


def test_it_holds_until_the_window_is_full_and_within_the_band() -> None:
    rows = [("A", price) for price in (90.0, 95.0, 100.0)]
    assert play(FILE, rows, PARAMS)[0] == []
    flat = [("A", 100.0 + 0.05 * (at % 2)) for at in range(40)]
    assert play(FILE, flat, PARAMS)[0] == []


def test_symbols_are_apart() -> None:
    rows = [("A", 100.0), ("B", 50.0)] * 4 + [("A", 103.0), ("B", 49.0)]
    trades, _ = play(FILE, rows, PARAMS, order_qty=1)
    assert trades == [Trade(8, "A", 1, 103.0), Trade(9, "B", -1, 49.0)]


def test_windows_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ParamError, match="short=9: must be below long=9"):
        play(FILE, [("A", 1.0)], "short=9 long=9")
