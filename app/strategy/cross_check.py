"""The default strategy: moving averages and sentiment must agree."""

from app.kernel import _kernel
from app.strategy.base import Context, Signals, Strategy, Ticks


class CrossCheck(Strategy):
    """:func:`app.strategy.reference.cross_check` over a batch, in the compiled kernel.

    Windows and thresholds: ``SHORT_WINDOW_TICKS``, ``LONG_WINDOW_TICKS``, ``BULLISH_THRESHOLD``,
    ``BEARISH_THRESHOLD``.  A symbol without sentiment gives HOLD.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        settings = context.settings
        self._bullish, self._bearish = settings.bullish_threshold, settings.bearish_threshold
        self._averages = _kernel.CrossAverage(
            len(context.symbols), settings.short_window_ticks, settings.long_window_ticks
        )

    def on_batch(self, ticks: Ticks) -> Signals:
        """+1 where both give BUY, -1 where both give SELL, else 0."""
        signals = self.signal_buffer(len(ticks))
        self._averages.agree(ticks, self.context.sentiment, self._bullish, self._bearish, signals)
        return signals
