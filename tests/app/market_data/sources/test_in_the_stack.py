"""The documented files in the four processes: each trades as the plain text file in a backtest."""

from pathlib import Path

import pytest

from app.backtest.outcome import first_difference
from tests.app.market_data.sources.columnar.test_examples import COMMANDS as BINARY
from tests.app.market_data.sources.text.test_examples import COMMANDS as TEXT
from tests.app.market_data.sources.text.test_examples import outcome, settings_of
from tests.chaos.host import HostStack
from tests.support.paths import ROOT

FOUR_TICKS = " BARS_AS=ohlc"
BARS = next(command for command in TEXT if "/bars.csv" in command) + FOUR_TICKS
COMMANDS = [
    *TEXT,
    *BINARY,
    BARS,
    *(command + FOUR_TICKS for command in BINARY if "bars." in command or "ohlcv" in command),
]
SOME = ("us_dates.csv", "quotes.csv", "quotes.feather", BARS, "ohlcv-1m.dbn.zst" + FOUR_TICKS)
"""The others are slow only because they are many."""


def marks(command: str) -> list[pytest.MarkDecorator]:
    return [] if any(some in command for some in SOME) else [pytest.mark.slow]


@pytest.mark.medium
@pytest.mark.parametrize(
    "command", [pytest.param(command, marks=marks(command)) for command in COMMANDS]
)
def test_the_stack_trades_as_the_backtest_of_the_text(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    expected = outcome(BARS if FOUR_TICKS in command else TEXT[0])
    environ = {key.lower(): value for key, value in settings_of(command).items()}
    with HostStack(tmp_path, pace="max", dashboard_port=0, **environ) as stack:
        assert stack.wait(60) == 0, stack.tail()
        assert len(stack.outcome().orders) >= 3
        assert first_difference(expected, stack.outcome()) is None
