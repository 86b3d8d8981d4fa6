"""Mean reversion: against the move, back at the mean, out by the stop; each symbol alone."""

from tests.app.strategy.examples.crafted import Trade, play

FILE = "mean_reversion.py:MeanReversion"
PARAMS = "window=10 entry=2 exit=0.25 stop_bps=100 qty=5"
CALM = [100.0, 100.1] * 5


def prices(symbol: str, *more: float) -> list[tuple[str, float]]:
    return [(symbol, price) for price in (*CALM, *more)]


def test_it_buys_what_fell_and_sells_it_back_at_the_mean() -> None:
    trades, result = play(FILE, prices("A", 99.5, 99.6, 100.2), PARAMS)
    assert trades == [Trade(10, "A", 5, 99.5), Trade(12, "A", -5, 100.2)]
    assert result.positions["A"].realized == 35 * 10**8


def test_it_sells_what_rose() -> None:
    trades, _ = play(FILE, prices("A", 100.6, 100.0), PARAMS)
    assert trades == [Trade(10, "A", -5, 100.6), Trade(11, "A", 5, 100.0)]


def test_the_stop_ends_it_and_the_symbol_waits() -> None:
    falling = [99.5, 99.0, 98.4, *([90.0] * 10), 89.0]
    trades, _ = play(FILE, prices("A", *falling), PARAMS)
    # 98.4 is 111 bps below 99.5.  For ten ticks nothing; then a fall from flat prices is bought.
    assert trades == [Trade(10, "A", 5, 99.5), Trade(12, "A", -5, 98.4), Trade(23, "A", 5, 89.0)]


def test_not_before_the_window_is_full_nor_on_a_flat_price() -> None:
    assert play(FILE, [("A", 100.0)] * 5 + [("A", 90.0)], PARAMS)[0] == []
    assert play(FILE, [("A", 0.1)] * 50, PARAMS)[0] == []


def test_each_symbol_has_its_own_mean_and_position() -> None:
    mixed = [row for pair in zip(prices("A"), prices("B"), strict=True) for row in pair]
    trades, _ = play(FILE, [*mixed, ("A", 99.5), ("B", 100.6)], PARAMS)
    assert trades == [Trade(20, "A", 5, 99.5), Trade(21, "B", -5, 100.6)]
