"""``python -m app proof`` beside a real stack: it says equal, and it can say different."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.chaos.host import HostStack
from tests.support.children import eventually
from tests.support.paths import ROOT
from tests.support.ports import free_ports

pytestmark = pytest.mark.medium

Line = dict[str, Any]


class RunningProof:
    """The program beside a stack, and its lines so far."""

    def __init__(self, stack: HostStack, **environ: str) -> None:
        self.path = stack.folder / "proof.jsonl"
        self.errors = stack.folder / "proof.err"
        with self.path.open("wb") as out, self.errors.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "proof"],
                cwd=ROOT, env={**stack._environ, **environ}, stdout=out, stderr=err,
            )  # fmt: skip

    @property
    def line(self) -> Line:
        """The last one; empty before the first."""
        lines = self.path.read_text().splitlines()
        return dict(json.loads(lines[-1])) if lines else {}

    def wait_for(self, holds: Callable[[Line], object], what: str, deadline_s: float = 30) -> Line:
        """Until a line is so."""
        eventually(lambda: self.line and holds(self.line), what, deadline_s, poll_s=0.05)
        return self.line

    def end(self, number: int | None = None) -> int:
        """Its exit code, after a signal if it does not end by itself."""
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(30)

    def why(self) -> str:
        """What it said on standard error."""
        return self.errors.read_text()


@contextmanager
def proving(stack: HostStack, **environ: str) -> Iterator[RunningProof]:
    """A proof that does not outlive the test."""
    proof = RunningProof(stack, **environ)
    try:
        yield proof
    finally:
        proof.process.kill()
        proof.process.wait()


def all_equal(at_least: int) -> Callable[[Line], object]:
    """So many orders, all equal."""
    return lambda line: line["expected"] == line["seen"] == line["equal"] >= at_least


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostStack]:
    """A stack with orders, at an easy pace."""
    with HostStack(tmp_path_factory.mktemp("proof"), replay="walk", pace="800/s") as stack:
        stack.wait_ready()
        stack.wait_until("orders", lambda: stack.counter("strategy", "orders_acked") > 15, 60)
        yield stack


def test_it_follows_a_run_whatever_fails_until_its_end(tmp_path: Path) -> None:
    settings = {"pace": "2500/s", "chaos": "true", "heartbeat_timeout_s": 1}
    with HostStack(tmp_path, **settings) as stack, proving(stack) as proof:
        stack.wait_ready()
        proof.wait_for(lambda line: line["equal"] > 10, "orders")
        for words in (
            ["kill", "order_manager"], ["freeze", "orderbook", "1"], ["kill", "strategy"],
            ["cut", "gateway", "0.2"],
        ):  # fmt: skip
            before = proof.line["equal"]
            assert stack.command("chaos", *words).returncode == 0, stack.tail()
            line = proof.wait_for(lambda line, n=before: line["equal"] > n + 10, str(words))
            assert line["difference"] is None
        proof.wait_for(lambda line: line["ticks"] == 30_000, "the end", 60)
        line = proof.line
        assert proof.end() == 0, proof.why()
        assert stack.wait(30) == 0, stack.tail()
        assert line["run"] == "run"
        assert all_equal(500)(line), line
        report = json.loads((tmp_path / "report.json").read_text())
        assert line["hash"] in json.dumps(report)


def test_many_orders_that_are_refused_or_filled_in_part(tmp_path: Path) -> None:
    """Limits that need the prices of all that is held, too."""
    settings = {
        "pace": "2000/s", "order_mode": "every", "paper_fill_percent": 30, "paper_slippage_bps": 3,
        "risk_client_position_qty_max": 60, "risk_client_exposure_max": 20_000,
        "risk_client_daily_loss_max": 300,
    }  # fmt: skip
    with HostStack(tmp_path, **settings) as stack, proving(stack) as proof:
        proof.wait_for(lambda line: line["equal"] > 300, "orders", 60)
        # The stack ends with its last tick, on a busy machine before all its orders were asked for.
        for words in (["pause"], ["seek", "29990"], ["speed", "10/s"]):
            assert stack.command("replay", *words).returncode == 0, stack.tail()
        proof.wait_for(all_equal(10_000), "all but the last orders", 60)
        assert stack.command("replay", "resume").returncode == 0
        assert proof.end() == 0, (proof.why(), stack.tail())
        assert all_equal(10_000)(proof.line), proof.line
        assert stack.wait(30) == 0
        report = (tmp_path / "report.json").read_text()
        assert proof.line["hash"] in report
        assert "POSITION" in stack.log_path.read_text()


def test_it_is_stopped_while_all_is_equal(running: HostStack) -> None:
    with proving(running) as proof:
        proof.wait_for(all_equal(15), "equal")
        assert proof.end(signal.SIGINT) == 0, proof.why()
        assert proof.why() == ""


def test_it_costs_little(running: HostStack) -> None:
    with proving(running) as proof:
        proof.wait_for(all_equal(15), "equal")
        begin = _cpu_s(proof.process.pid)
        time.sleep(5)
        assert _cpu_s(proof.process.pid) - begin < 5 * 0.08  # at 16 times the pace of the demo


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def store_of_a_dead_order_manager(stack: HostStack) -> Iterator[apsw.Connection]:
    """The store, to be changed: the order manager is killed, and comes back afterwards."""
    stack.hold_restarts()
    try:
        stack.signal("order_manager", signal.SIGKILL)
        pid = stack.pid_of("order_manager")
        stack.wait_until("death", lambda: pid is None or _is_dead(pid), 10)
        connection = apsw.Connection(str(stack.folder / "orders.sqlite3"))
        connection.set_busy_timeout(5000)
        yield connection
        connection.close()
    finally:
        stack.allow_restarts()


def _is_dead(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(
    ("damage", "field"),
    [
        ("UPDATE orders SET qty = qty + 1", "qty"),
        ("UPDATE orders SET filled_notional = filled_notional + 10", "avg_price"),
        ("UPDATE orders SET price = price + 1000000000", "price"),
        ("UPDATE orders SET side = -side", "side"),
        ("DELETE FROM orders", "order"),
    ],
)
def test_a_damaged_order_is_the_first_difference(
    running: HostStack, tmp_path: Path, damage: str, field: str
) -> None:
    """Of an order manager on a copy of the store."""
    copy = tmp_path / "orders.sqlite3"
    assert running.command("store", "backup", str(copy)).returncode == 0
    store = apsw.Connection(str(copy))
    order_id = store.execute("SELECT id FROM orders WHERE order_no = 5").get
    store.execute(f"{damage} WHERE order_no = 5")
    store.close()
    other = {
        "OUTPUT_DIR": str(tmp_path),
        "ORDER_PORT": str(free_ports(1)[0]),
        "SHM_METRICS": running.segment("other"),
    }
    log = tmp_path / "order_manager.log"
    with log.open("wb") as output:
        manager = subprocess.Popen(
            [sys.executable, "-m", "app.order_manager"],
            cwd=ROOT, env={**running._environ, **other}, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        with proving(running, **other) as proof:
            line = proof.wait_for(lambda line: line["difference"], "the difference")
            found = line["difference"]
            assert (found["id"], found["tick"], found["field"]) == (order_id, order_id - 1, field)
            assert found["client"].startswith("strategy@")
            assert found["expected"] != found["seen"]
            assert (found["seen"] is None) == (field == "order")
            assert 10 < line["equal"] < line["expected"]
            assert proof.end(signal.SIGTERM) == 1
            assert f"different: {found['client']}: order {order_id}: {field}" in proof.why()
    except BaseException as error:
        error.add_note(log.read_text())
        error.add_note(f"proof: {proof.line} {proof.why()}")
        raise
    finally:
        manager.kill()
        manager.wait()


def test_an_order_that_changes_before_it_is_asked_for_turns_it_red(running: HostStack) -> None:
    changing = "UPDATE orders SET qty = qty + ? WHERE order_no = ?"
    with proving(running) as proof:
        before = proof.wait_for(all_equal(15), "equal")
        proof.process.send_signal(signal.SIGSTOP)
        acked = running.counter("strategy", "orders_acked")
        running.wait_until(
            "orders", lambda: running.counter("strategy", "orders_acked") > acked + 5, 30
        )
        with store_of_a_dead_order_manager(running) as store:
            number = store.execute("SELECT max(order_no) FROM orders").get - 2
            order_id, qty = store.execute(
                "SELECT id, qty FROM orders WHERE order_no = ?", (number,)
            ).get
            store.execute(changing, (1, number))
        proof.process.send_signal(signal.SIGCONT)
        line = proof.wait_for(lambda line: line["difference"], "the difference")
        assert line["seen"] > before["seen"]
        named = {name: line["difference"][name] for name in ("id", "field", "expected", "seen")}
        assert named == {
            "id": order_id, "field": "qty", "expected": str(qty), "seen": str(qty + 1),
        }  # fmt: skip
        assert proof.end(signal.SIGINT) == 1
    with store_of_a_dead_order_manager(running) as store:
        store.execute(changing, (-1, number))


def test_other_settings_cannot_tell(running: HostStack) -> None:
    for environ, reason in (
        ({"SHORT_WINDOW_TICKS": "6"}, "set the variables that the stack was started with"),
        ({"SEED": "43"}, "set the variables that the stack was started with"),
        ({"TRADING_MODE": "live"}, "TRADING_MODE=live: a run on the clock cannot be repeated"),
        ({"DATA_PATH": "data/no_such.csv"}, "no_such.csv"),
    ):
        with proving(running, **environ) as proof:
            assert proof.end() == 3, (environ, proof.line)
            assert "proof: cannot tell: " in proof.why()
            assert reason in proof.why()
            assert reason in proof.line["note"]


def test_without_a_stack_it_cannot_tell(tmp_path: Path) -> None:
    stack = HostStack(tmp_path, attach_timeout_s=1)
    with proving(stack) as proof:
        assert proof.end() == 3
        assert "is the stack running with the same settings?" in proof.why()


def test_a_new_run_is_a_new_proof(tmp_path: Path) -> None:
    with HostStack(tmp_path, replay="walk", pace="1500/s") as stack:
        stack.wait_ready()
        with proving(stack) as proof:
            first = proof.wait_for(all_equal(60), "equal")
            assert first["run"] == "run"
            stack.stop()
            stack._environ["RUN_ID"] = "again"
            stack.start()
            line = proof.wait_for(lambda line: line["run"] == "again", "the new run")
            assert line["equal"] < first["equal"]
            line = proof.wait_for(all_equal(10), "equal again")
            assert (line["run"], line["difference"]) == ("again", None)
            assert proof.end(signal.SIGTERM) == 0


def test_a_jump_back_is_a_new_proof(tmp_path: Path) -> None:
    """Also paused and stepped: the orders stay those of an undisturbed run."""
    with HostStack(tmp_path, replay="walk", pace="1500/s") as stack:
        stack.wait_ready()
        with proving(stack) as proof:
            first = proof.wait_for(all_equal(60), "equal")
            for words in (["pause"], ["step", "5"], ["seek", "1000"], ["resume"]):
                done = stack.command("replay", *words)
                assert done.returncode == 0, (done, stack.tail())
            line = proof.wait_for(lambda line: line["run"] != first["run"], "the new run")
            line = proof.wait_for(
                lambda line: line["run"] != first["run"] and all_equal(40)(line), "equal again"
            )
            assert line["difference"] is None
            assert proof.end(signal.SIGTERM) == 0


def test_several_strategies_a_late_one_and_the_loop_of_a_file(tmp_path: Path) -> None:
    strategy = "data/strategies/breakout.py:Breakout"
    with HostStack(tmp_path, replay="loop", pace="12000/s", strategy=strategy) as stack:
        stack.wait_ready()
        with proving(stack) as proof:
            one = proof.wait_for(lambda line: line["ticks"] > 31_000, "the loop", 60)
            assert one["difference"] is None
            second = subprocess.Popen(
                [sys.executable, "-m", "app.strategy"],
                cwd=ROOT, env=stack._environ, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                both = proof.wait_for(
                    lambda line: line["ticks"] > 45_000 and line["seen"] > 1.8 * one["seen"], "both"
                )
                assert both["difference"] is None
                assert both["equal"] > one["seen"]
            finally:
                second.kill()
                second.wait()
            assert proof.end(signal.SIGINT) == 0
