"""How a run ends, as CI sees it: exit code, last line, and the report's files."""

import json
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.backtest import replay as backtest
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.shared_memory_utils.tick_ring import TickRing
from tests.bench.model import ANYWHERE
from tests.bench.subjects.stack import Stack, of, settings_for
from tests.chaos.host import HostStack
from tests.support.environ import default_environ
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

SAMPLE = ROOT / "data" / "market_data.csv"


def last_line(stack: HostStack) -> str:
    return stack.tail(1)


def verdict(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "report.json").read_text())
    return found


def wait_for_tick(stack: HostStack, tick: int) -> None:
    stack.wait_until(
        f"tick {tick}", lambda: stack.counter("strategy", "ticks_consumed") >= tick, 30
    )


# ---- The stack on this host


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_is_incomplete(tmp_path: Path, number: int) -> None:
    with HostStack(tmp_path, data_path=SAMPLE, pace="2000/s") as stack:
        wait_for_tick(stack, 1000)
        assert stack._main is not None
        stack._main.send_signal(number)
        assert stack.wait(60) == 3
        name = signal.Signals(number).name
        assert f'main stopped exit_code=3 reason="stopped by {name}"' in last_line(stack)
        assert stack.log_path.read_text().count("Signals and orders") == 1, "one report"
    found = verdict(tmp_path)
    assert found["exit_code"] == 3
    assert f"stopped by {name}" in str(found["verdict"])
    assert "of 30,000 ticks" in str(found["verdict"])
    assert (tmp_path / "junit.xml").exists()
    assert (tmp_path / "performance_report.md").read_text().startswith("**Incomplete: ")


def test_an_endless_run_that_is_stopped_is_well(tmp_path: Path) -> None:
    with HostStack(tmp_path, data_path=SAMPLE, pace="max", replay="walk") as stack:
        wait_for_tick(stack, 1000)
        stack._main.terminate()  # type: ignore[union-attr]
        assert stack.wait(60) == 0
        assert "main stopped exit_code=0" in last_line(stack)


def test_the_deadline_ends_a_run(tmp_path: Path) -> None:
    with HostStack(tmp_path, data_path=SAMPLE, pace="100/s", deadline_s=3) as stack:
        assert stack.wait(60) == 3
        assert 'reason="DEADLINE_S=3: not over within 3 s"' in last_line(stack)
    assert verdict(tmp_path)["exit_code"] == 3


def test_a_missed_expectation_is_the_last_line(tmp_path: Path) -> None:
    with HostStack(tmp_path, data_path=SAMPLE, pace="max", risk_client_qty_max=1) as stack:
        assert stack.wait(60) == 4
        assert "main stopped exit_code=4" in last_line(stack)
        refused = re.search(r"had ([\d,]+) of ([\d,]+) orders refused", last_line(stack))
        assert refused, last_line(stack)
        assert refused[1] == refused[2]


def test_refused_data_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("timestamp,symbol,price\n2025-10-01 09:30:00,A,-1\n")
    with HostStack(tmp_path / "run", data_path=path) as stack:
        assert stack.wait(60) == 1
        assert "main stopped exit_code=1 reason=" in last_line(stack)
    assert verdict(tmp_path / "run")["exit_code"] == 1


def test_refused_settings_of_one_process_end_the_run(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("short")
    with HostStack(tmp_path / "run", data_path=SAMPLE, order_token_file=token) as stack:
        assert stack.wait(60) == 2
        assert "main stopped exit_code=2 reason=" in last_line(stack)
        assert "gateway: invalid settings: ORDER_TOKEN_FILE=" in last_line(stack)
    assert verdict(tmp_path / "run")["exit_code"] == 2


def test_a_halted_run_ends(tmp_path: Path) -> None:
    with HostStack(tmp_path, data_path=SAMPLE, pace="5000/s", stall_timeout_s=3) as stack:
        wait_for_tick(stack, 1000)
        assert stack.command("orders", "halt").returncode == 0
        assert stack.wait(60) == 1
        assert re.search(
            r'exit_code=1 reason="no progress for 3 s at tick [\d,]+: trading is halted',
            last_line(stack),
        )
    assert verdict(tmp_path)["exit_code"] == 1


@pytest.mark.parametrize(
    "changes", [{}, {"order_mode": "every", "risk_client_position_qty_max": 50}]
)
def test_the_trades_hash_is_that_of_the_backtest_also_after_kills(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    settings = Settings(data_path=str(SAMPLE), replay="once", **changes)  # type: ignore[arg-type]
    expected = backtest.run(settings, open_feed(settings))
    refused = sum(1 for order in expected.orders if order.code)
    assert bool(refused) == bool(changes)
    with HostStack(
        tmp_path,
        data_path=SAMPLE,
        pace="15000/s",
        expect_trades_hash=expected.trades_hash,
        expect_orders_min=len(expected.orders),
        expect_fills_min=len(expected.orders) - refused,
        expect_refused_max=refused,
        **changes,
    ) as stack:
        for tick in (6000, 15_000):
            wait_for_tick(stack, tick)
            assert stack.signal("strategy", signal.SIGKILL)
        assert stack.wait(60) == 0, stack.tail()
    found = verdict(tmp_path)
    assert found["trades_hash"] == expected.trades_hash
    assert found["orders"][0]["filled"] == len(expected.orders) - refused  # type: ignore[index]


# ---- The strategy's own process, as in its container


@contextmanager
def four_processes(
    folder: Path, **changes: object
) -> Iterator[tuple[Stack, subprocess.Popen[bytes]]]:
    settings = settings_for(folder, ANYWHERE, **{"data_path": str(SAMPLE), **changes})
    with Stack(settings, {"strategy": {}}) as stack:
        yield stack, stack._children["strategy/strategy"]


def log_of(stack: Stack) -> str:
    return stack._log_path("strategy/strategy").read_text()


def test_a_strategy_that_is_stopped_reports_and_fails(tmp_path: Path) -> None:
    with four_processes(tmp_path, pace="1000/s") as (stack, strategy):
        stack.wait("ticks", lambda found: any(b.events > 500 for b in of(found, "strategy")))
        strategy.terminate()
        assert strategy.wait(60) == 3
        assert "of 30,000 ticks" in log_of(stack)
        assert (
            'stopped exit_code=3 reason="Incomplete: stopped by SIGTERM'
            in (log_of(stack).splitlines()[-1])
        )
        assert verdict(stack.folder)["exit_code"] == 3


def test_a_strategy_of_an_endless_run_that_is_stopped_is_well(tmp_path: Path) -> None:
    with four_processes(tmp_path, pace="1000/s", replay="walk") as (stack, strategy):
        stack.wait("ticks", lambda found: any(b.events > 100 for b in of(found, "strategy")))
        strategy.terminate()
        assert strategy.wait(60) == 0
        assert not (stack.folder / "report.json").exists()


@pytest.mark.parametrize("body", ["return 'HOLD'", "while True:\n            pass"])
def test_a_strategy_ends_at_its_deadline_even_if_it_hangs(tmp_path: Path, body: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from app.strategy import Strategy\nclass Mine(Strategy):\n"
        f"    def on_tick(self, tick):\n        {body}\n"
    )
    changes = {"strategy": f"{path}:Mine", "deadline_s": 2.0, "pace": "100/s"}
    with four_processes(tmp_path, **changes) as (stack, strategy):
        assert strategy.wait(60) == 3
        assert "DEADLINE_S=2: not over within 2 s" in log_of(stack).splitlines()[-1]
        assert verdict(stack.folder)["exit_code"] == 3


def test_a_strategy_that_raises_reports_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from app.strategy import Strategy\nclass Mine(Strategy):\n"
        "    def on_tick(self, tick):\n        return 1 / 0\n"
    )
    with four_processes(tmp_path, strategy=f"{path}:Mine", pace="max") as (stack, strategy):
        assert strategy.wait(60) == 1
        assert "ZeroDivisionError" in log_of(stack).splitlines()[-1]
        assert verdict(stack.folder)["exit_code"] == 1


@pytest.mark.parametrize(("pace", "code"), [("fast", 2), ("max", 1)], ids=["settings", "a stack"])
def test_a_run_that_does_not_start_replaces_the_report_of_the_last(
    tmp_path: Path, pace: str, code: int
) -> None:
    """Else a CI job would upload the old one, which may be complete."""
    (tmp_path / "report.json").write_text('{"exit_code": 0}')
    name = f"verdict_{secrets.token_hex(6)}"
    environ = default_environ() | {
        "OUTPUT_DIR": str(tmp_path),
        "REPLAY": "once",
        "PACE": pace,
        "SHM_TICK_RING": name,
        "SHM_METRICS": f"{name}_metrics",
    }
    ring = TickRing.open_writer(name, 1024, "lossless")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "app", "run"],
            env=environ,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        ring.close()
        for segment in Path("/dev/shm").glob(f"{name}*"):
            segment.unlink()
    assert done.returncode == code, done.stderr
    assert verdict(tmp_path)["exit_code"] == code
