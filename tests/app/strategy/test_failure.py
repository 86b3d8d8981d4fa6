"""A strategy's exception: its file, its line, and the tick, in the stack and in the backtest."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.config.settings import Settings
from app.model.tick import TICK_DTYPE
from app.strategy.base import load_strategy
from app.strategy.engine import Engine
from app.strategy.failure import StrategyError
from tests.chaos.host import HostStack
from tests.support.environ import default_environ
from tests.support.paths import ROOT

HEAD = """\
import numpy as np
from app.strategy import Strategy

class Mine(Strategy):
"""
"""Four lines, so the first line of a body below is line 5."""


@pytest.fixture
def engine_of(tmp_path: Path):
    """Makes an engine of a strategy with this body."""

    def make(body: str) -> Engine:
        (tmp_path / "mine.py").write_text(HEAD + body)
        spec = f"{tmp_path}/mine.py:Mine"
        return Engine(load_strategy(spec), ["AAPL", "MSFT"], Settings(strategy=spec))

    return make


def decide(engine: Engine) -> None:
    """Three ticks from 7 on, one second apart, of MSFT, AAPL, MSFT."""
    ticks = np.zeros(3, TICK_DTYPE)
    for i, symbol in enumerate((1, 0, 1)):
        ticks[i] = (1_759_311_000_000_000_000 + i * 10**9, 100.0 + i, 7 + i, 0, symbol, 0)
    engine.signals(ticks, lambda _ticks, _out: None)


@pytest.mark.parametrize(
    ("body", "line", "reason"),
    [
        ("    def on_tick(self, tick):\n        1 / (tick.seq - 8)\n", 6, "ZeroDivision"),
        ("    def on_tick(self, tick):\n        int('x' * (tick.seq - 7))\n", 6, "ValueError"),
        (
            "    def on_tick(self, tick):\n        return self.f(tick)\n"
            "    def f(self, tick):\n        return np.array([1])[8 - tick.seq and 0 or 7]\n",
            8,
            "IndexError",
        ),
        ("    def on_tick(self, tick):\n        return {8: 'buy'}.get(tick.seq)\n", 5, "buy"),
    ],
)
def test_on_tick_names_the_tick_and_the_line(engine_of, body: str, line: int, reason: str) -> None:
    with pytest.raises(StrategyError) as raised:
        decide(engine_of(body))
    first = 7 if "ValueError" in reason or "IndexError" in reason else 8
    symbol, second = ("MSFT", 0) if first == 7 else ("AAPL", 1)
    text, details = str(raised.value), raised.value.details
    assert f"Mine failed on tick {first} ({symbol}, 2025-10-01 09:30:0{second}): " in text
    assert reason in text
    assert text.endswith(f"mine.py:{line})")
    assert (details["seq"], details["symbol"], details["line"]) == (first, symbol, line)
    assert details["event_time"].startswith("2025-10-01 09:30:0")
    assert "Traceback" in details["exception"]


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("    def on_batch(self, ticks):\n\n        return ticks['nothing']\n", 7),
        ("\n    def on_batch(self, ticks):\n        return None\n", 6),
        ("    def on_batch(self, ticks):\n        return np.ones(1, np.int8)\n", 5),
    ],
)
def test_on_batch_names_the_range_and_the_line(engine_of, body: str, line: int) -> None:
    with pytest.raises(StrategyError, match=r"^Mine failed on ticks 7 to 9: ") as raised:
        decide(engine_of(body))
    assert str(raised.value).endswith(f"mine.py:{line})")
    assert (raised.value.details["first_seq"], raised.value.details["last_seq"]) == (7, 9)


@pytest.mark.parametrize(
    ("body", "line", "reason"),
    [
        ("    def __init__(self, context):\n        1 / 0\n", 6, "ZeroDivisionError"),
        ("    def __init__(self):\n        pass\n", 5, "takes 1 positional argument but 2"),
        ("    x = 1\n    def on_tick(self):\n        pass\n", 6, "must be on_tick(self, tick)"),
        ("    def on_batch(self, a, b):\n        pass\n", 5, "must be on_batch(self, ticks)"),
        ("    x = 1 / 0\n", 5, "ZeroDivisionError"),
        ("    def on_tick(self, tick)\n        pass\n", 5, "SyntaxError"),
        ("    import nothing_of_this_name\n", 5, "ModuleNotFoundError"),
    ],
)
def test_a_startup_failure_names_the_line(engine_of, body: str, line: int, reason: str) -> None:
    with pytest.raises(StrategyError) as raised:
        engine_of(body)
    assert reason in str(raised.value)
    assert str(raised.value).endswith(f"mine.py:{line})")


@pytest.mark.medium
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "    def on_tick(self, tick):\n        1 / (tick.seq - 30)\n",
            "failed on tick 30 (",
        ),
        ("    def __init__(self, context):\n        1 / 0\n", "Mine: ZeroDivisionError"),
    ],
)
def test_the_run_ends_at_once_and_the_backtest_says_the_same(
    tmp_path: Path, body: str, reason: str
) -> None:
    (tmp_path / "mine.py").write_text(HEAD + body)
    spec = f"{tmp_path}/mine.py:Mine"
    with HostStack(tmp_path, strategy=spec, pace="max") as stack:
        assert stack.wait(60) == 1
    lines = stack.log_path.read_text().splitlines()
    assert ' ERROR main stopped exit_code=1 reason="strategy: ' in lines[-1]
    said = [line for line in lines if " strategy fatal error=" in line]
    assert len(said) == 1, "said once, and never restarted"
    told = lines[-1].partition('reason="strategy: ')[2].removesuffix('"')
    fatal = [line for line in lines if " ERROR main fatal " in line]
    assert [line.partition('error="strategy: ')[2] for line in fatal] == [f'{told}"']
    assert reason in told
    assert told.endswith("mine.py:6)")
    done = subprocess.run(
        [sys.executable, "-m", "app", "backtest", "--no-plot", "--strategy", spec],
        cwd=ROOT,
        env=default_environ() | {"OUTPUT_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"backtest: {told}"
