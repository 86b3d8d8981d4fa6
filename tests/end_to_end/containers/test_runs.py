"""Runs of the containers from start to end: outcome, report, secrets, and starts that fail."""

import secrets
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.backtest.outcome import first_difference, of_store
from tests.chaos.run_host import undisturbed
from tests.support.compose_stack import IMAGES, ComposeStack, eventually
from tests.support.paths import ROOT, SHARED_DATA

pytestmark = [
    pytest.mark.container,
    pytest.mark.timeout(240),
    pytest.mark.usefixtures("images"),
]

MakeStack = Callable[..., ComposeStack]


def data_files() -> list[Path]:
    """The committed sample, and real data beside the checkout."""
    names = (
        "equity_1min_3sym_utc.csv",
        "binance_spot_2sym_epoch_ns.csv",
        "tsla_ticks_us_utc.csv",
        "wiki_daily_5sym_2000_2013.csv",
    )
    return [ROOT / "data" / "market_data.csv", *(SHARED_DATA / name for name in names)]


def cases() -> list[tuple[Path, str]]:
    """Every file at full pace, and the sample at two slower paces."""
    files = data_files()
    return [*((path, "max") for path in files), (files[0], "20000/s"), (files[0], "5000/s")]


@pytest.mark.parametrize(("path", "pace"), cases(), ids=lambda value: getattr(value, "stem", value))
def test_once_consumes_every_row_and_trades_like_the_backtest(
    compose_stack: MakeStack, path: Path, pace: str, tmp_path: Path
) -> None:
    if not path.exists():
        pytest.skip(f"{path} is missing; TRADING_SHARED_DATA names its folder")
    rows = path.read_bytes().count(b"\n") - 1
    stack = compose_stack(
        REPLAY="once", PACE=pace, DATA_DIR=str(path.parent), DATA_PATH=f"data/{path.name}"
    )
    done = stack.compose("up", "--exit-code-from", "strategy", check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    assert f"{rows:,}" in done.stdout, done.stdout[-6000:]
    codes = {c.name: c.attrs["State"]["ExitCode"] for c in stack.containers()}
    assert set(codes.values()) == {0}, (codes, done.stdout[-6000:])
    store = tmp_path / "orders.sqlite3"
    store.write_bytes(stack.file_from("order_manager", "/srv/out/orders.sqlite3"))
    assert first_difference(of_store(store), undisturbed(path)) is None


def test_once_leaves_its_report_in_the_volume(compose_stack: MakeStack) -> None:
    stack = compose_stack(REPLAY="once", PACE="max")
    stack.compose("up", "--exit-code-from", "strategy")
    volume = f"{stack.project}_reports"
    listing = stack.client.containers.run(
        IMAGES["strategy"],
        ["find", "/srv/out", "-name", "performance_report.md"],
        volumes={volume: {"bind": "/srv/out", "mode": "ro"}},
        remove=True,
    )
    assert listing.decode().count("performance_report.md") == 1


def test_orders_with_token_and_tls(compose_stack: MakeStack, tmp_path: Path) -> None:
    """Both processes get the files as secrets; the health check uses TLS as well."""
    names = ("order_tls_cert", "order_tls_key", "order_token")
    certificate, key, token = (tmp_path / name for name in names)
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=order_manager", "-addext", "subjectAltName=DNS:order_manager"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    token.write_text(secrets.token_hex(32))
    for path in (certificate, key, token):
        path.chmod(0o644)
    settings = {f"{name.upper()}_FILE": str(tmp_path / name) for name in names}
    stack = compose_stack(REPLAY="once", PACE="max", **settings)
    stack.compose("up", "--exit-code-from", "strategy")
    assert "Received Order" in stack.logs("order_manager")


@pytest.mark.parametrize(
    ("settings", "reason", "code"),
    [
        ({"LONG_WINDOW_TICKS": "3"}, "LONG_WINDOW_TICKS=3", 2),
        ({"DATA_PATH": "data/none.csv"}, "data/none.csv", 1),
    ],
)
def test_run_that_cannot_start_ends(
    compose_stack: MakeStack, settings: dict[str, str], reason: str, code: int
) -> None:
    """Also where a stack without an end runs already, which the new settings replace."""
    stack = compose_stack()
    stack.up()
    stack.environ.update({"REPLAY": "once", "PACE": "max", **settings})
    done = stack.compose("run", "--rm", "-T", "verdict", check=False)
    assert done.returncode == code, done.stdout[-4000:]
    assert reason in done.stdout.splitlines()[-1]


def test_a_finished_run_is_not_run_again(compose_stack: MakeStack) -> None:
    """Its exit code is shown once; the engine's restart finds the verdict, and trades nothing."""
    stack = compose_stack(REPLAY="once", PACE="max", EXPECT_ORDERS_MIN="600")
    stack.compose("up", "-d")
    eventually(
        lambda: (
            stack.container("strategy").attrs["RestartCount"] == 1
            and stack.health("strategy") == "exited"
        ),
        "the second end",
        60,
    )
    orders = stack.counters()[0]["orders_sent"]
    time.sleep(3)  # the engine would restart it within this time
    container = stack.container("strategy")
    assert (container.attrs["RestartCount"], container.attrs["State"]["ExitCode"]) == (1, 0)
    lines = container.logs().decode().splitlines()
    assert "run_is_over" in lines[-2]
    assert "stopped exit_code=4" in lines[-1]
    assert "EXPECT_ORDERS_MIN=600" in lines[-1]
    assert stack.counters()[0]["orders_sent"] == orders
    done = stack.compose("run", "--rm", "-T", "verdict", check=False)
    assert done.returncode == 4, "a verdict may be asked for later, too"
    stack.compose("down")
    stack.environ["EXPECT_ORDERS_MIN"] = "500"
    done = stack.compose("run", "--rm", "-T", "verdict", check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def test_suite_runs_in_its_own_image(compose_stack: MakeStack) -> None:
    """The tests that depend most on the images' Python."""
    rooms = ("test_config.py", "kernel", "shared_memory_utils", "model")
    compose_stack().compose(
        *("run", "--rm", "-T", "tests", "python3", "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("-m", "not slow", *(f"tests/app/{room}" for room in rooms)),
    )
