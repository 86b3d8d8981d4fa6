"""The default strategy: moving averages and sentiment must agree."""

from app.kernel import _kernel
from app.runtime.run.strategy_params import ParamError
from app.strategy.base import Context, Signals, Strategy, Ticks
from app.strategy.kit.params import Param


class CrossCheck(Strategy):
    """:func:`app.strategy.reference.cross_check` over a batch, in the compiled kernel.

    A symbol without sentiment gives HOLD.
    """

    short = Param(5, low=1, setting="short_window_ticks")
    long = Param(20, low=2, setting="long_window_ticks")
    bullish = Param(50, low=0, high=100, setting="bullish_threshold")
    bearish = Param(50, low=0, high=100, setting="bearish_threshold")

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if self.short >= self.long:
            raise ParamError(f"short={self.short}: must be below long={self.long}")
        if self.bearish > self.bullish:
            raise ParamError(f"bearish={self.bearish}: must not be above bullish={self.bullish}")
        self._averages = _kernel.CrossAverage(len(context.symbols), self.short, self.long)

    def on_batch(self, ticks: Ticks) -> Signals:
        """+1 where both give BUY, -1 where both give SELL, else 0."""
        signals = self.signal_buffer(len(ticks))
        self._averages.agree(ticks, self.context.sentiment, self.bullish, self.bearish, signals)
        return signals
