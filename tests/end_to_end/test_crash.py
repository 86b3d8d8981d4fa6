"""``make crash`` and ``make compare``, on host processes and on containers."""

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from app.runtime.container.health import Unhealthy, check_heartbeat
from tests.chaos.host import PROCESSES, HostStack
from tests.support.compose_stack import ComposeStack, eventually
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

RECOVERED = re.compile(r"recovered in \d+\.\d s, 0 lost, 0 doubled\n")
EQUAL = re.compile(r"equal: ([\d,]+) orders, \1 fills, PnL -?[\d,]+\.\d\d at the last order\n")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostStack]:
    """A stack on this host with orders."""
    folder = tmp_path_factory.mktemp("crash")
    with HostStack(folder, replay="walk", pace="1000/s", heartbeat_timeout_s=1) as stack:
        stack.wait_ready()
        stack.wait_until("orders", lambda: stack.counter("strategy", "orders_acked") > 20, 60)
        yield stack


@pytest.mark.parametrize("service", PROCESSES)
def test_a_killed_process_recovers(running: HostStack, service: str) -> None:
    done = running.command("crash", service)
    assert RECOVERED.fullmatch(done.stdout), (done, running.tail())
    assert done.returncode == 0


def test_a_frozen_process_recovers(running: HostStack) -> None:
    done = running.command("crash", "orderbook", "--fault", "freeze")
    assert RECOVERED.fullmatch(done.stdout), (done, running.tail())
    assert done.returncode == 0
    assert float(done.stdout.split()[2]) >= 3.0


def test_the_run_so_far_equals_the_backtest(running: HostStack) -> None:
    done = running.command("compare")
    assert EQUAL.fullmatch(done.stdout), done
    assert done.returncode == 0


def test_a_connection_is_cut_only_in_containers(running: HostStack) -> None:
    done = running.command("crash", "gateway", "--fault", "cut")
    assert done.returncode == 1
    assert "containers only" in done.stderr


def test_a_service_that_does_not_come_back_is_named(running: HostStack) -> None:
    running.hold_restarts()
    try:
        done = running.command("crash", "gateway", "--timeout", "2")
        assert done.returncode == 1
        assert "not recovered within 2 s: gateway does not run" in done.stderr
        again = running.command("crash", "gateway")
        assert "not healthy before the crash" in again.stderr
    finally:
        running.allow_restarts()


def test_a_strategy_without_an_order_manager_is_unhealthy_until_it_is_back(
    running: HostStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHM_METRICS", running.metrics_name)
    monkeypatch.setenv("HEARTBEAT_TIMEOUT_S", "1")

    def state() -> str:
        block = running.metrics("strategy")
        return block.state if block else ""

    running.wait_until("ready", lambda: state() == "ready", 30)
    running.hold_restarts()
    try:
        running.signal("order_manager", signal.SIGKILL)
        running.wait_until("stale", lambda: state() == "stale", 10)
        with pytest.raises(Unhealthy, match="strategy is stale"):
            check_heartbeat("strategy")
    finally:
        running.allow_restarts()
    running.wait_until("ready again", lambda: state() == "ready", 10)
    check_heartbeat("strategy")


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("DELETE FROM orders WHERE order_no = 5", "order 5"),
        ("UPDATE orders SET qty = qty + 1 WHERE order_no = 5", "order 5"),
        ("UPDATE orders SET exec_price = exec_price + 1 WHERE order_no = 5", "fill 5"),
    ],
)
def test_compare_shows_the_first_difference(
    running: HostStack, tmp_path: Path, damage: str, problem: str
) -> None:
    copy = tmp_path / "copy.sqlite3"
    assert running.command("store", "backup", str(copy)).returncode == 0
    connection = apsw.Connection(str(copy))
    connection.execute(damage)
    connection.close()
    done = running.command("compare", "--store", str(copy))
    assert done.returncode == 1
    assert done.stdout.startswith("different: stored | backtest: " + problem), done


def test_compare_with_other_settings_says_so(running: HostStack) -> None:
    running._environ["SHORT_WINDOW_TICKS"] = "6"
    try:
        done = running.command("compare")
    finally:
        del running._environ["SHORT_WINDOW_TICKS"]
    assert done.returncode == 1
    assert "set the variables that the stack was started with (DATA_PATH, REPLAY, " in done.stderr


# ---- In containers


def make(stack: ComposeStack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a target of the Makefile on a project."""
    return subprocess.run(
        ["make", "--silent", *arguments],
        cwd=ROOT,
        env=stack.environ,
        text=True,
        capture_output=True,
        timeout=150,
        check=False,
    )


def last_order(stack: ComposeStack) -> int:
    """Orders that the strategy has had acknowledged."""
    return stack.counters()[0]["orders_acked"]


@pytest.mark.container
@pytest.mark.timeout(600)
def test_services_crash_in_containers_and_the_run_equals_the_backtest(
    compose_stack: Callable[..., ComposeStack],
) -> None:
    stack = compose_stack()
    stack.up()
    eventually(lambda: last_order(stack) > 20, "orders", 60)
    for service, fault in (("order_manager", "kill"), ("gateway", "kill"), ("orderbook", "cut")):
        before = stack.started_at(service)
        done = make(stack, "crash", f"SERVICE={service}", f"FAULT={fault}")
        assert RECOVERED.fullmatch(done.stdout), (service, done, stack.logs())
        assert done.returncode == 0
        assert stack.started_at(service) == before, service  # the engine was not needed
    done = make(stack, "compare")
    assert EQUAL.fullmatch(done.stdout), done
    assert not stack.containers("check")


def volumes(stack: ComposeStack) -> set[str]:
    """The volumes of all containers of a project."""
    found = (mount for each in stack.containers() for mount in each.attrs["Mounts"])
    return {mount["Name"] for mount in found if mount["Type"] == "volume"}


@pytest.mark.container
@pytest.mark.timeout(600)
def test_a_run_lasts_until_down_and_there_is_no_anonymous_volume(
    compose_stack: Callable[..., ComposeStack],
) -> None:
    stack = compose_stack()
    runs = []
    for settings in ({"ORDER_QTY": "10"}, {"ORDER_QTY": "20"}):
        stack.environ.update(settings)
        stack.up()
        names = ("output", "recordings", "reports", "run")
        assert volumes(stack) == {f"{stack.project}_{name}" for name in names}
        runs.append(stack.file_from("order_manager", "/srv/run/run_id"))
    stack.compose("stop")
    stack.up()
    runs.append(stack.file_from("order_manager", "/srv/run/run_id"))
    assert runs[0] == runs[1] == runs[2]
    stack.compose("down")
    stack.up()
    assert stack.file_from("order_manager", "/srv/run/run_id") != runs[0]


@pytest.mark.container
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("settings", "service", "reason"),
    [
        ({"PACE": "fast"}, "gateway", "PACE=fast: must be"),
        ({"PUBLISH_HOST": "0.0.0.0"}, "order_manager", "ORDER_TOKEN_FILE: required"),
    ],
)
def test_wrong_settings_end_up_at_once_and_are_the_last_line(
    compose_stack: Callable[..., ComposeStack], settings: dict[str, str], service: str, reason: str
) -> None:
    stack = compose_stack(**settings)
    started_s = time.monotonic()
    done = stack.compose("up", "-d", "--wait", check=False)
    assert done.returncode == 1
    assert time.monotonic() - started_s < 90  # 4 s on an idle machine; without the mend, never
    # The first life exits with the true code; the engine restarts it, and the second ends with 0.
    eventually(
        lambda: (
            stack.container(service).attrs["RestartCount"] == 1
            and stack.health(service) == "exited"
        ),
        f"the end of {service}",
        20,
    )
    time.sleep(2)  # the engine would restart it within this time
    container = stack.container(service)
    assert (container.attrs["RestartCount"], container.attrs["State"]["ExitCode"]) == (1, 0)
    assert reason in container.logs().decode().splitlines()[-1]
