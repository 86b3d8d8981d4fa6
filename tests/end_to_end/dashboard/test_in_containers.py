"""The page of a stack in containers: as on a host, and nothing depends on it."""

import re
import shutil
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.order_manager.store.tools import reading
from tests.end_to_end.dashboard.page_stack import Page
from tests.support.compose_stack import ComposeStack, eventually
from tests.support.paths import ROOT

pytestmark = [
    pytest.mark.container,
    pytest.mark.timeout(240),
    pytest.mark.usefixtures("images"),
]

MakeStack = Callable[..., ComposeStack]


def open_page(stack: ComposeStack) -> Page:
    """The page, once it sees the stack."""
    page = Page(stack.page_port)
    eventually(lambda: _status(page) == 200, "the page", 20)
    return page


def _status(page: Page) -> int:
    try:
        return page.get("/readyz")[0]
    except OSError:
        return 0


def tell(page: Page, command: str, **request: object) -> dict[str, Any]:
    """A command of the page; fails unless it is carried out."""
    status, answer = page.post(f"/commands/{command}", request)
    assert status == 200, answer
    return answer


def service(page: Page, name: str) -> dict[str, Any]:
    """What the page shows of a process."""
    found: dict[str, Any]
    (found,) = (row for row in page.snapshot()["state"]["services"] if row["service"] == name)
    return found


def proof(page: Page) -> dict[str, Any]:
    """The proof's last line; it goes along while a page is open."""
    return page.snapshot()["state"]["proof"]["line"] or {}


def is_proven(page: Page, orders: int = 1) -> bool:
    """Whether all orders so far are equal, and at least so many."""
    line = proof(page)
    return bool(line) and line["difference"] is None and line["equal"] == line["seen"] >= orders


def compare(stack: ComposeStack) -> str:
    """The verdict of ``app compare`` beside the stack."""
    return stack.compose("run", "--rm", "--no-deps", "-T", "check", "compare").stdout


def test_the_page_is_there_soon_and_shows_what_the_store_has(
    compose_stack: MakeStack, tmp_path: Path
) -> None:
    stack = compose_stack(PACE="500/s")
    stack.up()
    begin_s = time.monotonic()
    page = open_page(stack)
    assert time.monotonic() - begin_s < 10
    eventually(lambda: len(page.snapshot()["orders"]) > 20, "orders", 30)
    tick = tell(page, "transport", op="pause")["market"]["tick"] + 5
    tell(page, "transport", op="step", ticks=5)
    eventually(lambda: page.snapshot()["state"]["run"]["seq"] == tick, "five ticks", 10)
    eventually(lambda: stack.counters()[0]["ticks_consumed"] == tick, "they are consumed", 10)
    (counters,) = stack.counters()

    backup = tmp_path / "orders.sqlite3"
    command = ("python3", "-m", "app", "store", "backup", "/srv/out/b")
    stack.compose("exec", "-T", "order_manager", *command)
    backup.write_bytes(stack.file_from("order_manager", "/srv/out/b"))
    with reading(str(backup)) as store:
        stored = list(store.execute("SELECT id, qty FROM orders ORDER BY order_no"))
    assert len(stored) == counters["orders_acked"] > 20

    def shown() -> list[tuple[int, int]]:
        orders = sorted(page.snapshot()["orders"], key=lambda order: int(order["order_no"]))
        return [(order["id"], order["qty"]) for order in orders]

    eventually(lambda: shown() == stored[-300:], "the orders of the store", 10)
    eventually(lambda: proof(page).get("equal") == len(stored), "the proof", 20)
    metrics = page.get("/metrics")[1].decode()
    found = re.findall(r"^trading_strategy_ticks_consumed_total\S* (\S+)$", metrics, re.MULTILINE)
    assert [float(value) for value in found] == [tick]


def test_in_front_of_an_audience_the_trades_stay_the_same(
    compose_stack: MakeStack, tmp_path: Path
) -> None:
    """Kill, freeze, jump back, and on to the end of the run; with data of the user's own."""
    shutil.copy(ROOT / "data/market_data.csv", tmp_path / "ticks.csv")
    tmp_path.chmod(0o755)
    stack = compose_stack(
        PACE="1000/s",
        REPLAY="once",
        CHAOS="true",
        START_PAUSED="true",
        HEALTH_PAUSE_S="0",
        DATA_DIR=str(tmp_path),
        DATA_PATH="data/ticks.csv",
        STRATEGY="data/strategies/breakout.py:Breakout",
    )
    stack.compose("up", "-d")
    page = open_page(stack)
    tell(page, "transport", op="resume")
    eventually(lambda: is_proven(page, 20), "the first orders", 40)
    for name in ("strategy", "order_manager"):
        tell(page, "fault", op="kill", service=name)
        eventually(lambda n=name: service(page, n)["restarts"] == 1, f"{name} again", 20)
    tell(page, "fault", op="freeze", service="orderbook", seconds=2)
    before = len(page.snapshot()["orders"])
    eventually(lambda: is_proven(page, before + 20), "it goes on", 30)
    first = page.snapshot()["state"]["run"]["id"]

    tell(page, "transport", op="seek", tick=300)
    eventually(lambda: page.snapshot()["state"]["run"]["id"] not in ("", first), "a new run", 20)
    assert page.snapshot()["state"]["run"]["id"].startswith(f"{first}.2-")
    eventually(lambda: is_proven(page, 5), "its proof", 30)
    stack.crash("gateway")
    stack.compose("restart", "order_manager")
    eventually(lambda: service(page, "order_manager")["state"] == "ready", "ready again", 20)
    tell(page, "transport", op="speed", pace="max")
    eventually(lambda: service(page, "strategy")["state"] == "done", "the end", 60)
    eventually(lambda: proof(page).get("ticks") == 30_000, "all of it", 30)
    line = proof(page)
    assert line["difference"] is None
    assert line["expected"] == line["seen"] == line["equal"] > 100
    assert compare(stack).startswith(f"equal: {line['equal']:,} orders"), compare(stack)
    done = stack.compose("run", "--rm", "-T", "verdict", check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def test_a_page_that_hangs_disturbs_nothing(compose_stack: MakeStack) -> None:
    """Its container stands still with a page open and orders asked for."""
    stack = compose_stack(PACE="max", REPLAY="once", START_PAUSED="true")
    stack.compose("up", "-d")
    page = open_page(stack)
    with urllib.request.urlopen(f"{page.url}/events", timeout=10) as stream:
        assert stream.readline()
        eventually(lambda: page.snapshot()["state"]["account"]["problem"] == "", "answers", 20)
        stack.container("dashboard").pause()
        try:
            stack.compose("exec", "-T", "gateway", "python3", "-m", "app", "replay", "resume")
            done = stack.compose("run", "--rm", "-T", "verdict", check=False)
            assert done.returncode == 0, done.stdout[-3000:]
            assert compare(stack).startswith("equal: ")
        finally:
            stack.container("dashboard").unpause()
    assert stack.health("dashboard") in ("healthy", "unhealthy"), "it runs"
