"""Market making: quotes on both sides, reached only beyond them, moved, leaning, limited."""

import pytest

from tests.app.strategy.examples.crafted import Trade, play

FILE = "market_making.py:MarketMaker"
PARAMS = "width_bps=10 move_bps=20 qty=10 most=20 cent=0.01"


def test_both_quotes_are_reached_only_beyond_them() -> None:
    prices = [100.0, 99.9, 99.89]
    trades, result = play(FILE, [("A", price) for price in prices], PARAMS)
    assert trades == [Trade(2, "A", 10, 99.9, maker=True)], "99.90 only touches the bid"
    assert result.left_open == 2


def test_who_is_long_quotes_lower() -> None:
    # Half of the most is held after the fill, so the middle is half a width lower: 99.84.
    prices = [100.0, 99.89, 99.93, 99.95]
    trades, _ = play(FILE, [("A", price) for price in prices], PARAMS)
    assert trades == [
        Trade(1, "A", 10, 99.9, maker=True),
        # The quotes of tick 1, around 99.84: the ask at 99.94.
        Trade(3, "A", -10, 99.94, maker=True),
    ]


def test_quotes_move_when_the_price_has_left_them() -> None:
    rows = [("A", 100.0), ("A", 100.05), ("A", 100.15), ("A", 100.16), ("A", 99.8)]
    still, result = play(FILE, rows[:2], PARAMS)
    assert (still, result.placed) == ([], 2)
    trades, result = play(FILE, [("A", 100.0), ("B", 50.0), ("A", 100.3)], PARAMS)
    assert trades == [Trade(2, "A", -10, 100.1, maker=True)]
    assert result.canceled == 1, "the bid, before new quotes"


def test_no_more_than_the_most_is_held() -> None:
    falling = [("A", 100.0 - 0.5 * at) for at in range(20)]
    trades, result = play(FILE, falling, PARAMS)
    assert [trade.qty for trade in trades] == [10, 10]
    assert result.positions["A"].qty == 20


def test_a_quote_never_takes() -> None:
    """Also if it leans as far as the price itself."""
    falling = [("A", 100.0 - 0.5 * at) for at in range(4)]
    rising = [("A", 98.5 + 0.02 * at) for at in range(200)]
    trades, _ = play(FILE, falling + rising, PARAMS, paper_half_spread_bps=1.0)
    assert len(trades) > 4
    assert all(trade.maker for trade in trades)


@pytest.mark.parametrize("price", [0.02, 12.5, 4e5])
def test_quotes_are_multiples_of_the_smallest_step(price: float) -> None:
    rows = [("A", price), ("A", price * 0.5), ("A", price * 2)]
    trades, _ = play(FILE, rows, PARAMS)
    assert trades
    for trade in trades:
        assert trade.price == pytest.approx(round(trade.price, 2), abs=1e-9)
