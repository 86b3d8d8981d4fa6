"""Pairs: the ratio decides, both legs trade at once for the same money, and close together."""

import pytest

from app.runtime.run.strategy_params import ParamError
from tests.app.strategy.examples.crafted import Trade, play

FILE = "pairs.py:Pairs"
PARAMS = "first=A second=B window=20 entry=2 exit=0.2 qty=10"
CALM = [("A", 100.0), ("B", 50.0), ("A", 100.1), ("B", 50.05)] * 6


def test_both_legs_open_and_close_together() -> None:
    trades, result = play(FILE, [*CALM, ("A", 103.0), ("C", 7.0), ("A", 100.0)], PARAMS)
    # A is dear: 10 of it are sold, and 1030 / 50.05 = 20.6 of B bought at its latest price.
    assert trades == [
        Trade(24, "A", -10, 103.0),
        Trade(24, "B", 21, 50.05),
        Trade(26, "A", 10, 100.0),
        Trade(26, "B", -21, 50.05),
    ]
    assert result.positions["A"].qty == result.positions["B"].qty == 0


def test_the_other_way_round() -> None:
    trades, _ = play(FILE, [*CALM, ("B", 52.0)], PARAMS)
    assert trades == [Trade(24, "A", 10, 100.1), Trade(24, "B", -19, 52.0)]


def test_what_moves_both_trades_nothing() -> None:
    together = [100.0, 101.0] * 15 + [102.0, 103.0, 104.0, 105.0]
    rows = [row for price in together for row in (("A", price), ("B", price / 2))]
    assert play(FILE, rows, PARAMS)[0] == []
    apart = [*rows[:-1], ("B", 51.0)]
    assert len(play(FILE, apart, PARAMS)[0]) == 2, "the same, but B stays behind"


def test_other_symbols_and_a_missing_leg_do_nothing() -> None:
    assert play(FILE, [("A", 1.0), ("C", 2.0), ("B", 3.0)], PARAMS)[0] == []


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ("first=A second=A", "second=A: must differ from first"),
        ("first=A second=X", "second=X: no such symbol; the run has A, B"),
    ],
)
def test_symbols_that_are_no_pair_are_refused(params: str, says: str) -> None:
    with pytest.raises(ParamError, match=says):
        play(FILE, [("A", 1.0), ("B", 1.0)], params)
