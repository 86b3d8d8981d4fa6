"""The two classroom strategies and their cross-check, one point at a time."""

import pytest

from app.strategy.reference import (
    MarketDataPoint,
    SentimentDataPoint,
    SentimentStrategy,
    WindowedMovingAverageStrategy,
    cross_check,
)

SIGNALS = ("BUY", "SELL", "HOLD")


class TestMovingAverage:
    @pytest.mark.parametrize(("s", "l"), [(5, 5), (6, 5), (0, 5), (-1, 5), (0, 0)])
    def test_invalid_windows(self, s: int, l: int) -> None:  # noqa: E741
        with pytest.raises(ValueError, match="short window"):
            WindowedMovingAverageStrategy(s, l)

    def test_holds_until_the_long_window_is_full(self) -> None:
        strategy = WindowedMovingAverageStrategy(s=1, l=3)
        signals = [strategy.on_tick(MarketDataPoint("t", "A", price)) for price in (1, 2, 3, 2, 1)]
        assert signals == ["HOLD", "HOLD", "BUY", "SELL", "SELL"]

    def test_equal_averages_hold(self) -> None:
        strategy = WindowedMovingAverageStrategy(2, 3)
        signals = [strategy.on_tick(MarketDataPoint("t", "A", 0.1)) for _ in range(50)]
        assert set(signals) == {"HOLD"}

    def test_each_symbol_has_its_own_window(self) -> None:
        strategy = WindowedMovingAverageStrategy(1, 2)
        points = [("A", 1), ("B", 9), ("A", 2), ("B", 8)]
        signals = [strategy.on_tick(MarketDataPoint("t", s, float(p))) for s, p in points]
        assert signals == ["HOLD", "HOLD", "BUY", "SELL"]

    def test_generate_signals_holds_until_the_long_window_is_full(self) -> None:
        strategy = WindowedMovingAverageStrategy(2, 4)
        prices = [100.0, 101.0, 102.0, 103.0, 90.0, 80.0]
        signals = [strategy.generate_signals(MarketDataPoint("t", "A", p)) for p in prices]
        assert signals == ["HOLD", "HOLD", "HOLD", "BUY", "SELL", "SELL"]

    def test_generate_signals_compares_exactly(self) -> None:
        # In floats, the mean of three times 0.1 is not 0.1.
        strategy = WindowedMovingAverageStrategy(1, 3)
        signals = [strategy.generate_signals(MarketDataPoint("t", "A", 0.1)) for _ in range(9)]
        assert signals == ["HOLD"] * 9


class TestSentiment:
    @pytest.mark.parametrize(
        ("sentiment", "signal"),
        [(0, "SELL"), (49, "SELL"), (50, "HOLD"), (51, "BUY"), (100, "BUY")],
    )
    def test_the_thresholds_are_50_by_default(self, sentiment: int, signal: str) -> None:
        assert SentimentStrategy().on_sentiment(SentimentDataPoint("t", "A", sentiment)) == signal

    def test_the_thresholds_can_be_set(self) -> None:
        strategy = SentimentStrategy(bullish=70, bearish=30)
        points = [SentimentDataPoint("t", "A", value) for value in (29, 30, 70, 71)]
        assert [strategy.on_sentiment(point) for point in points] == ["SELL", "HOLD", "HOLD", "BUY"]
        assert [strategy.generate_signal(p) for p in points] == ["SELL", "HOLD", "HOLD", "BUY"]

    @pytest.mark.parametrize(("bullish", "bearish"), [(30, 70), (101, 50), (50, -1)])
    def test_invalid_thresholds(self, bullish: int, bearish: int) -> None:
        with pytest.raises(ValueError, match="thresholds"):
            SentimentStrategy(bullish, bearish)


def test_cross_check_needs_both_to_agree() -> None:
    for average in SIGNALS:
        for sentiment in SIGNALS:
            agreed = average if average == sentiment else "HOLD"
            assert cross_check(average, sentiment) == agreed
