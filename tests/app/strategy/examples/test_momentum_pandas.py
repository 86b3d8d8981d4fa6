"""Momentum with pandas: who has risen most is held, who fell most is short, at each ranking."""

from tests.app.strategy.examples.crafted import Trade, play

FILE = "momentum_pandas.py:Momentum"
PARAMS = "minutes=2 every=1 count=1 money=1000"
SYMBOLS = "ABCD"


def minutes(*closes: tuple[float, ...]) -> list[tuple[str, float]]:
    """A minute with one tick of each symbol, every 15 s."""
    return [(symbol, price) for row in closes for symbol, price in zip(SYMBOLS, row, strict=True)]


def test_best_and_worst_of_the_last_minutes() -> None:
    rows = minutes(
        (100.0, 50.0, 20.0, 10.0),
        (101.0, 50.0, 19.9, 10.0),
        (102.0, 50.0, 19.8, 10.0),
        (103.0, 60.0, 19.7, 10.0),
        (100.0, 60.0, 19.6, 10.0),
    )
    trades, _ = play(FILE, rows, PARAMS, step_s=15)
    # The third minute ends with tick 12: A is up 2 %, C down 1 %.  A's price is that of tick 12,
    # C's its latest.  A minute later B is up 20 %, C still last; 1000 / 19.7 is 51 again.
    assert trades == [
        Trade(12, "C", -51, 19.8),
        Trade(12, "A", 10, 103.0),
        Trade(16, "A", -10, 100.0),
        Trade(16, "B", 17, 60.0),
    ]


def test_rankings_are_apart() -> None:
    rows = minutes(*((100.0 + at, 50.0, 20.0 - at / 10, 10.0) for at in range(12)))
    ticks = {trade.tick for trade in play(FILE, rows, PARAMS, step_s=15)[0]}
    rarely = {
        trade.tick
        for trade in play(FILE, rows, "minutes=2 every=5 count=1 money=1000", step_s=15)[0]
    }
    assert min(ticks) == 12
    assert rarely <= {20, 40}
    assert 20 in rarely


def test_equal_gains_are_ranked_by_name() -> None:
    trades, _ = play(FILE, minutes(*[(10.0, 10.0, 10.0, 10.0)] * 4), PARAMS, step_s=15)
    assert trades == [Trade(12, "A", -100, 10.0), Trade(12, "D", 100, 10.0)]


def test_a_symbol_without_a_price_yet_is_left_out() -> None:
    rows = [("A", 10.0 + at) for at in range(16)]
    rows += [("B", 5.0)]
    assert play(FILE, rows, PARAMS, step_s=15)[0] == []
