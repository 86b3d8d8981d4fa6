"""The four processes on this host: whatever the market is told, the orders are the same."""

import random
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app.backtest import replay as backtest
from app.backtest.compare import Comparer
from app.backtest.outcome import Outcome, of_backtest
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.runtime.control.client import ControlClient
from tests.chaos.host import HostStack
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

SAMPLE = ROOT / "data" / "market_data.csv"
TICKS = 30_000
SETTINGS = Settings(data_path=str(SAMPLE), replay="once")
PATIENCE_S = 30.0


@cache
def expected() -> Outcome:
    """What an undisturbed run does."""
    return of_backtest(backtest.run(SETTINGS, open_feed(SETTINGS)))


class RunOverError(Exception):
    """The stack has ended, as it does after the last order: there is no market to tell anything."""


class Market:
    """The control port of a stack, also while its gateway starts again."""

    def __init__(self, stack: HostStack) -> None:
        self.stack = stack
        self._client = ControlClient(stack.settings())

    def tell(self, op: str, **members: object) -> dict[str, Any]:
        """Send a request until it is answered; a step may then be done twice, which is one, too.

        Raises:
            RunOverError: nobody can answer any more.
        """
        until_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._client.request({"op": op, **members})
            except OSError:
                if not self.stack.running:
                    raise RunOverError from None
                assert time.monotonic() < until_s, self.stack.tail()
                time.sleep(0.02)

    def state(self) -> dict[str, Any]:
        return dict(self.tell("status")["market"])

    def wait_until(self, what: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        self.stack.wait_until(what, lambda: holds(self.state()), PATIENCE_S)
        return self.state()

    def wait_for_strategy(self, ticks: int) -> None:
        """Wait until the strategy has consumed exactly as many ticks."""
        self.stack.wait_until(
            f"{ticks} ticks consumed",
            lambda: self.stack.counter("strategy", "ticks_consumed") == ticks,
            PATIENCE_S,
        )


def finish(market: Market) -> None:
    """Play to the end, and compare the last run with the backtest: every order and fill."""
    with suppress(RunOverError):
        market.tell("speed", pace="max")
        market.tell("resume")
    assert market.stack.wait(60) == 0, market.stack.tail()
    (found,) = Comparer(SETTINGS).compare(str(market.stack.folder / "orders.sqlite3"))
    assert found.difference is None
    assert len(found.stored.orders) == len(expected().orders) > 100


def test_pause_step_speed_and_jumps(tmp_path: Path) -> None:
    with HostStack(tmp_path, data_path=SAMPLE, pace="2000/s", start_paused="true") as stack:
        stack.wait_ready()
        market = Market(stack)
        assert market.state()["tick"] == 0
        assert market.tell("step")["market"]["tick"] == 1
        assert market.tell("step", ticks=41)["market"]["mode"] == "paused"
        market.wait_for_strategy(42)
        # A gateway that dies in a pause comes back in it, at the same tick.
        assert stack.signal("gateway", signal.SIGKILL)
        stack.wait_until("a new life", lambda: restarts(stack) == 1, PATIENCE_S)
        for _ in range(3):
            state = market.state()
            assert (state["tick"], state["mode"], state["pace"]) == (42, "paused", "2000/s")
            time.sleep(0.3)
        assert market.tell("seek", tick=9000)["market"]["until"] in (None, 9000)
        market.wait_for_strategy(9000)
        # Back: another run, which stands still there, too.
        assert market.tell("seek", tick=500)["ok"]
        market.wait_until("tick 500", lambda state: state["tick"] == 500)
        market.wait_for_strategy(500)
        assert market.state()["mode"] == "paused"
        assert stack.counter("gateway", "run_number") == 2
        finish(market)
        assert stack.log_path.read_text().count("process_died") == 1


def restarts(stack: HostStack) -> int:
    block = stack.metrics("gateway")
    return block.restarts if block and block.state == "ready" else 0


def test_a_market_that_stands_still_is_neither_stalled_nor_stale(tmp_path: Path) -> None:
    """Longer than every timeout; and its prices do not age, so an order executes."""
    timeouts = {"stall_timeout_s": 1.0, "heartbeat_timeout_s": 1.0, "risk_price_age_ms_max": 900}
    with HostStack(tmp_path, data_path=SAMPLE, pace="2000/s", **timeouts) as stack:
        stack.wait_ready()
        market = Market(stack)
        market.wait_until("some ticks", lambda state: state["tick"] > 1000)
        market.tell("pause")
        time.sleep(3.0)
        for service in ("gateway", "orderbook", "strategy", "order_manager"):
            block = stack.metrics(service)
            assert block is not None
            assert block.state == "ready", service
        sent = stack.command("orders", "send", "BUY", "1", "AAPL", "9000", "--json")
        assert '"status":"Filled"' in sent.stdout, sent
        assert "stale" not in stack.log_path.read_text()
        market.tell("speed", pace="max")
        market.tell("resume")
        assert stack.wait(60) == 0, stack.tail()


def test_a_pause_is_no_latency(tmp_path: Path) -> None:
    """Nor is a jump, or another pace: each would be seconds in the latency from the due time."""
    with HostStack(tmp_path, data_path=SAMPLE, pace="2000/s") as stack:
        stack.wait_ready()
        market = Market(stack)
        for pace in ("500/s", "4000/s"):
            market.tell("pause")
            time.sleep(1.5)
            market.tell("resume")
            market.tell("speed", pace=pace)
            time.sleep(0.5)
        market.tell("seek", tick=20_000)
        market.wait_until("the place", lambda state: state["tick"] > 24_000)
        market.tell("pause")
        block = stack.metrics("strategy")
        assert block is not None
        due = block.histograms["scheduled_to_ack_ns"]
        assert due.total > 20
        assert due.percentile(99) < 1e9
        finish(market)


# ---- Random sequences of commands, and of kills between them


def disturb(market: Market, draw: random.Random, commands: int, done: list[str]) -> None:
    """Tell the market, or kill a process, until the run is over; ``done`` tells what was done."""
    backs = 0
    for _ in range(commands):
        tick = market.state()["tick"]
        name = draw.choice(
            ["pause", "resume", "step", "speed", "seek", "seek", "back", "kill", "wait", "wait"]
        )
        if market.state()["finished"]:
            break
        if name == "step":
            answer = market.tell(name, ticks=draw.randint(1, 800))
        elif name == "speed":
            pace = draw.choice(["500/s", "3000/s", "20000/s", "100x", "600x"])
            answer = market.tell(name, pace=pace)
        elif name == "seek":
            answer = market.tell(name, tick=min(tick + draw.randint(0, 4000), TICKS - 4000))
        elif name == "back" and backs < 3 and tick:
            backs += 1
            answer = market.tell("seek", tick=draw.randint(0, tick - 1))
        elif name == "kill":
            service = draw.choice(["gateway", "orderbook", "strategy", "order_manager"])
            market.stack.signal(service, signal.SIGKILL)
            answer = {"ok": True, "kill": service}
        elif name in ("pause", "resume"):
            answer = market.tell(name)
        else:
            time.sleep(draw.uniform(0.05, 1.2))
            continue
        done.append(f"{name} at {tick}: {answer}")
        if draw.random() < 0.5:
            time.sleep(draw.uniform(0.0, 0.3))


def one_history(folder: Path, seed: int) -> None:
    draw = random.Random(seed)
    pace = draw.choice(["1000/s", "3000/s", "120x"])
    paused = draw.choice(["true", "false"])
    with HostStack(folder, data_path=SAMPLE, pace=pace, start_paused=paused) as stack:
        stack.wait_ready()
        market = Market(stack)
        done: list[str] = []
        try:
            # A fast market may come to its end meanwhile.
            with suppress(RunOverError):
                disturb(market, draw, 20, done)
            finish(market)
        except BaseException as error:
            error.add_note(f"seed {seed}, {pace}, start_paused {paused}\n" + "\n".join(done))
            raise


@pytest.mark.parametrize("_number", range(2))
def test_random_commands_and_kills(tmp_path: Path, _number: int) -> None:
    one_history(tmp_path, secrets.randbelow(10**6))


@pytest.mark.slow
@pytest.mark.parametrize("_number", range(20))
def test_twenty_histories(tmp_path: Path, _number: int) -> None:
    one_history(tmp_path, secrets.randbelow(10**6))
