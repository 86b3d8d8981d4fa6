"""The four processes on a live feed: its recording replays to the same orders."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from app.backtest import replay as backtest
from app.backtest.outcome import Outcome, of_backtest
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from tests.app.market_data.live.fake_exchange import SYMBOLS, FakeExchange
from tests.chaos.host import HostStack

pytestmark = pytest.mark.medium

PATIENCE_S = 40.0


def live_stack(folder: Path, exchange: FakeExchange, **settings: object) -> HostStack:
    values: dict[str, Any] = {
        "data_path": exchange.url,
        "live_symbols": ",".join(SYMBOLS),
        "replay": "walk",
        "live_ping_s": 1,
        "heartbeat_timeout_s": 1.0,
        "reconnect_delay_ms": 20,
        "reconnect_delay_ms_max": 100,
        "dashboard_port": 0,
        **settings,
    }
    return HostStack(folder, **values)


def of_file(path: Path | str) -> Outcome:
    """What a replay of a file does."""
    settings = Settings(data_path=str(path), replay="once")
    return of_backtest(backtest.run(settings, open_feed(settings)))


def same(live: Outcome, replayed: Outcome) -> None:
    """Every order and fill, whatever the name of the client."""
    orders = [[line._replace(client="") for line in each.orders] for each in (live, replayed)]
    fills = [[line._replace(client="") for line in each.fills] for each in (live, replayed)]
    assert orders[0] == orders[1]
    assert fills[0] == fills[1]
    assert len(orders[0]) > 20


def settle(stack: HostStack, exchange: FakeExchange) -> int:
    """Let the exchange rest, and wait until the strategy has every tick; returns their number."""
    exchange.paused = True
    ticks = 0

    def quiet() -> bool:
        nonlocal ticks
        before, ticks = ticks, stack.counter("gateway", "ticks_sent")
        time.sleep(0.7)
        return ticks == before and stack.counter("strategy", "ticks_consumed") == ticks > 0

    stack.wait_until("all ticks are consumed", quiet, PATIENCE_S)
    return ticks


def test_a_live_session_and_its_recording_have_the_same_orders(tmp_path: Path) -> None:
    with FakeExchange(limit=4000) as exchange, live_stack(tmp_path, exchange) as stack:
        stack.wait_ready()
        stack.wait_until("all is played", lambda: exchange.played == 4000, PATIENCE_S)
        ticks = settle(stack, exchange)
        assert ticks == len(exchange.sent) == 4000
        compared = stack.command("compare")
        assert compared.returncode == 0, compared
        assert compared.stdout.startswith("equal: ")
        stack.stop()
        live = stack.outcome()
    recording = tmp_path / "live" / "run.ticks"
    same(live, of_file(recording))
    same(live, of_file(tmp_path / "live" / "run"))
    assert exchange.subscriptions == [
        {"method": "SUBSCRIBE", "params": [f"{s.lower()}@trade" for s in SYMBOLS], "id": 1}
    ]
    log = stack.log_path.read_text()
    assert "live_connected" in log
    assert "live_gap" not in log


@pytest.mark.slow
def test_the_orders_survive_kills_of_all_processes(tmp_path: Path) -> None:
    """Each asks for the ticks that it lacks, from the recording."""
    victims = ("strategy", "order_manager", "gateway", "orderbook") * 2
    with (
        FakeExchange(per_s=400) as exchange,
        live_stack(tmp_path, exchange, chaos="true") as stack,
    ):
        stack.wait_ready()
        for victim in victims:
            before = stack.counter("strategy", "ticks_consumed")
            stack.wait_until(
                "the strategy goes on",
                lambda before=before: stack.counter("strategy", "ticks_consumed") > before + 50,
                PATIENCE_S,
            )
            assert stack.command("chaos", "kill", victim).returncode == 0, stack.tail()
        settle(stack, exchange)
        compared = stack.command("compare")
        assert compared.returncode == 0, compared
        stack.stop()
        live = stack.outcome()
    same(live, of_file(tmp_path / "live" / "run.ticks"))
    log = stack.log_path.read_text()
    assert all(f"process_died process={each}" in log for each in victims)


@pytest.mark.slow
def test_the_orders_survive_twenty_kills_of_the_gateway(tmp_path: Path) -> None:
    """What the exchange says while there is no gateway is a gap, counted when it is back."""
    with (
        FakeExchange(per_s=400) as exchange,
        live_stack(tmp_path, exchange, chaos="true") as stack,
    ):
        stack.wait_ready()
        kills = 0
        while kills < 20:
            before = stack.counter("gateway", "ticks_sent")
            stack.wait_until(
                "the market goes on",
                lambda before=before: stack.counter("gateway", "ticks_sent") > before + 20,
                PATIENCE_S,
            )
            kills += stack.command("chaos", "kill", "gateway").returncode == 0
        ticks = settle(stack, exchange)
        compared = stack.command("compare")
        assert compared.returncode == 0, compared
        missing = stack.counter("gateway", "live_missing")
        assert missing > 0
        # Those after the last tick of a symbol are no gap yet.
        assert ticks + missing <= exchange.played
        stack.stop()
        live = stack.outcome()
    same(live, of_file(tmp_path / "live" / "run.ticks"))
    log = stack.log_path.read_text()
    assert log.count("process_died process=gateway") == 20
    assert "damaged" not in log


def test_a_broken_exchange_makes_prices_old_and_it_comes_back(tmp_path: Path) -> None:
    with FakeExchange(per_s=500) as exchange, live_stack(tmp_path, exchange) as stack:
        stack.wait_ready()
        stack.wait_until("ticks", lambda: stack.counter("gateway", "ticks_sent") > 200, PATIENCE_S)
        exchange.refuse_with = [(503, {})] * 100_000
        exchange.later(FakeExchange.drop)
        block = stack.metrics
        stack.wait_until(
            "stale", lambda: (b := block("orderbook")) and b.state == "stale", PATIENCE_S
        )
        exchange.refuse_with = []
        stack.wait_until(
            "fresh", lambda: (b := block("orderbook")) and b.state == "ready", PATIENCE_S
        )
        settle(stack, exchange)
        assert stack.command("compare").returncode == 0
    log = stack.log_path.read_text()
    lost = re.findall(r"live_lost reason=(.*) lost_s=\S+ attempts=(\d+) next_try_s=", log)
    assert "HTTP 503" in lost[-1][0]
    assert int(lost[-1][1]) > 1
    assert len(lost) < 20, "a repeated failure is one line in a while"
    assert re.search(r"live_connected .*lost_s=\S+ attempts=\d+", log)


def test_pause_and_a_jump_back_leave_the_orders_as_they_are(tmp_path: Path) -> None:
    """The market goes on outside: what has arrived meanwhile comes at once."""
    with FakeExchange(per_s=500) as exchange, live_stack(tmp_path, exchange) as stack:
        stack.wait_ready()

        def sent() -> int:
            return stack.counter("gateway", "ticks_sent")

        stack.wait_until("ticks", lambda: sent() > 300, PATIENCE_S)
        assert stack.command("replay", "pause").returncode == 0
        paused_at = sent()
        time.sleep(1.0)
        assert sent() <= paused_at + 50, "a heartbeat late at most"
        refused = stack.command("replay", "speed", "60x")
        assert refused.returncode != 0
        assert "pace of its exchange" in refused.stderr + refused.stdout
        assert stack.command("replay", "step", "5").returncode == 0
        assert stack.command("replay", "resume").returncode == 0
        stack.wait_until("more", lambda: sent() > paused_at + 400, PATIENCE_S)
        assert stack.command("replay", "seek", "100").returncode == 0
        stack.wait_until("a new run", lambda: stack.counter("gateway", "run_number") == 2, 40)
        ticks = settle(stack, exchange)
        assert ticks > paused_at + 400
        compared = stack.command("compare")
        assert compared.returncode == 0, compared
