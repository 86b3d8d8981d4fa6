"""Faults on request in the four processes on this host: the trades stay the same."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from app.backtest.outcome import first_difference
from tests.chaos.host import PROCESSES, HostStack
from tests.chaos.run_host import undisturbed
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

SAMPLE = ROOT / "data" / "market_data.csv"


def ask(stack: HostStack, *words: str) -> None:
    """``python -m app chaos ...``, which succeeds."""
    done = stack.command("chaos", *words)
    assert done.returncode == 0, (done, stack.tail())
    assert words[1] in done.stdout


def wait_for_ticks(stack: HostStack, more: int) -> None:
    """Until the strategy has consumed so many more."""
    until = stack.counter("strategy", "ticks_consumed") + more
    stack.wait_until("ticks", lambda: stack.counter("strategy", "ticks_consumed") >= until, 20)


def injected(stack: HostStack, service: str, fault: str) -> int:
    """How often the log says so."""
    return len(re.findall(rf" {service} fault_injected fault={fault} ", stack.log_path.read_text()))


@pytest.mark.parametrize("fault", ["kill", "freeze", "cut"])
def test_each_process_fails_on_request_and_the_trades_are_the_same(
    tmp_path: Path, fault: str
) -> None:
    seconds = {"kill": [], "freeze": ["2"], "cut": ["0.3"]}[fault]
    with HostStack(
        tmp_path, data_path=SAMPLE, pace="2500/s", chaos="true", heartbeat_timeout_s=1
    ) as stack:
        stack.wait_ready()
        for service in PROCESSES:
            restarts = stack.metrics(service).restarts  # type: ignore[union-attr]
            ask(stack, fault, service, *seconds)
            stack.wait_until("fault", lambda s=service: injected(stack, s, fault), 10)
            if fault == "kill":
                stack.wait_until(
                    "restart",
                    lambda s=service, r=restarts: stack.metrics(s).restarts > r,  # type: ignore[union-attr]
                    10,
                )
            else:
                ended = f" {service} fault_ended fault={fault} "
                stack.wait_until("end", lambda e=ended: e in stack.log_path.read_text(), 10)
            wait_for_ticks(stack, 300)
        assert stack.wait(60) == 0, stack.tail()
        assert first_difference(stack.outcome(), undisturbed(SAMPLE)) is None
        log = stack.log_path.read_text()
        if fault == "cut":
            assert min(map(int, re.findall(r"connections=(\d+)", log))) >= 1
        if fault == "freeze":
            assert re.search(r"strategy book_stale|orderbook feed_stale", log), "noticed"


def test_without_the_setting_nobody_listens(tmp_path: Path) -> None:
    with HostStack(tmp_path, data_path=SAMPLE, pace="4000/s") as stack:
        stack.wait_ready()
        done = stack.command("chaos", "kill", "gateway")
        assert done.returncode == 1
        assert "start the stack with CHAOS=true" in done.stderr
        assert not (tmp_path / "chaos").exists()
        assert "chaos_ready" not in stack.log_path.read_text()


@pytest.mark.parametrize(("shell", "pace"), [({}, "50/s"), ({"PACE": "7/s"}, "7/s")])
def test_the_demo_listens_and_has_a_pace_to_follow(
    tmp_path: Path, shell: dict[str, str], pace: str
) -> None:
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"include {ROOT}/Makefile\nup:\n\t@echo $$CHAOS $$PACE\n")
    environ = {"PATH": os.environ["PATH"], **shell}
    done = subprocess.run(
        ["make", "-f", str(makefile), "demo"],
        cwd=ROOT, env=environ, text=True, capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["true", pace], done


def test_wrong_usage_is_one_line(tmp_path: Path) -> None:
    stack = HostStack(tmp_path)
    for fault, seconds in (("kill", "3"), ("freeze", "0"), ("freeze", "61"), ("melt", "1")):
        done = stack.command("chaos", fault, "gateway", seconds)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1, done
