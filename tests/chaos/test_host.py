"""Kill any process, get the same trades: the four on this host, disturbed while they run."""

import secrets
import signal
import socket
import time
from pathlib import Path

import pytest

from app.backtest import run as backtest
from app.config import Settings
from app.market_data.sources.loader import open_feed
from app.runtime.health import Unhealthy, check_heartbeat
from tests.chaos.bad_feed import BadFeed, Faults
from tests.chaos.host import PROCESSES, HostStack
from tests.chaos.run_host import run_once, scenarios, undisturbed
from tests.support.orders.process import Client
from tests.support.outcome import Outcome, first_difference, of_backtest
from tests.support.paths import ROOT

SAMPLE = ROOT / "data" / "market_data.csv"
PROXY_HOST = "127.0.0.2"


@pytest.fixture(scope="module")
def expected() -> Outcome:
    """What an undisturbed run over the sample does."""
    return undisturbed(SAMPLE)


def consumed(stack: HostStack) -> int:
    """Ticks that the strategy is through with."""
    return stack.counter("strategy", "ticks_consumed")


def wait_for_tick(stack: HostStack, tick: int) -> None:
    """Until the strategy is so far."""
    stack.wait_until(f"tick {tick}", lambda: consumed(stack) >= tick, 30)


def wait_for_full_ring(stack: HostStack, capacity: int) -> None:
    """Until the orderbook waits for the strategy."""
    stack.wait_until(
        "a full ring", lambda: stack.counter("orderbook", "queue_depth") == capacity, 20
    )


# ---- Seeded chaos.  python -m tests.chaos.run_host does as many as you like.


@pytest.mark.parametrize("number", range(5))
def test_seeded_chaos(tmp_path: Path, number: int) -> None:
    seed = secrets.randbelow(10**6)
    scenario = scenarios(tmp_path)[number]
    expected = undisturbed(scenario.data_path, **scenario.settings)
    verdict = run_once(seed, scenario, expected, 5, tmp_path)
    account = verdict.account.read_text()
    assert verdict.difference is None, f"seed {seed}, scenario {number}\n{account}"


def test_every_order_mode_survives_kills(tmp_path: Path) -> None:
    """One order after the other in the same symbol: their sequence decides the profit."""
    theirs = undisturbed(SAMPLE, order_mode="every")
    stack = HostStack(tmp_path, data_path=SAMPLE, pace="10000/s", order_mode="every")
    with stack:
        for tick, service in ((4000, "order_manager"), (9000, "strategy"), (15000, "orderbook")):
            wait_for_tick(stack, tick)
            assert stack.signal(service, signal.SIGKILL)
        assert stack.wait(60) == 0
        assert first_difference(stack.outcome(), theirs) is None


# ---- How long it takes


def test_trades_again_within_5_s_of_any_kill(tmp_path: Path, expected: Outcome) -> None:
    took_s = {}
    with HostStack(tmp_path, data_path=SAMPLE, pace="2500/s") as stack:
        for number, service in enumerate(PROCESSES):
            wait_for_tick(stack, 3000 + 6000 * number)
            published = stack.counter("orderbook", "ticks_received")
            started_s = time.monotonic()
            assert stack.signal(service, signal.SIGKILL)
            # A tick that was not there yet, and then an order that is new.
            stack.wait_until("ticks", lambda p=published: consumed(stack) > p, 10)
            acked = stack.counter("order_manager", "orders_acked")
            stack.wait_until(
                "an order", lambda a=acked: stack.counter("order_manager", "orders_acked") > a, 10
            )
            took_s[service] = round(time.monotonic() - started_s, 2)
        assert stack.wait(60) == 0
        assert first_difference(stack.outcome(), expected) is None
    print("seconds from SIGKILL to the next order:", took_s)
    assert max(took_s.values()) <= 5, took_s


# ---- Staleness


def unhealthy(stack: HostStack, service: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """What the container's health check would say."""
    with monkeypatch.context() as patch:
        patch.setenv("SHM_METRICS", stack.metrics_name)
        patch.setenv("HEARTBEAT_TIMEOUT_S", "1")
        try:
            check_heartbeat(service)
        except Unhealthy:
            return True
    return False


def new_order(stack: HostStack, symbol: str = "AAPL") -> dict[str, object]:
    """What the order manager says to a plain client's order now."""
    with Client(stack.order_port) as client:
        return client.ask({"side": "BUY", "symbol": symbol, "qty": 1, "price": 170.0})


@pytest.mark.parametrize("how", ["cut gateway link", "paused gateway", "paused orderbook"])
def test_no_order_on_a_stale_price(
    tmp_path: Path, expected: Outcome, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing is known of the feed no order passes; then the run goes on."""
    stack = HostStack(
        tmp_path,
        data_path=SAMPLE,
        pace="5000/s",
        gateway_host=PROXY_HOST,
        risk_price_age_ms_max=1000,
        heartbeat_timeout_s=1,
    )
    prices = BadFeed(("127.0.0.1", stack.price_port), Faults(), 0, (PROXY_HOST, stack.price_port))
    sentiment = BadFeed(
        ("127.0.0.1", stack.sentiment_port), Faults(), 0, (PROXY_HOST, stack.sentiment_port)
    )
    with prices, sentiment, stack:
        wait_for_tick(stack, 6000)
        victim = how.removeprefix("paused ")
        prices.cut() if how == "cut gateway link" else stack.signal(victim, signal.SIGSTOP)
        began_s = time.monotonic()
        shows = "strategy" if victim == "orderbook" else "orderbook"
        stack.wait_until("unhealthy", lambda: unhealthy(stack, shows, monkeypatch), 5)
        assert time.monotonic() - began_s < 2.5
        stack.wait_until("STALE_PRICE", lambda: new_order(stack)["code"] == "STALE_PRICE", 5)
        acked = stack.counter("order_manager", "orders_acked")
        refused = [new_order(stack) for _ in range(20)]
        assert {(answer["ok"], answer["code"]) for answer in refused} == {(False, "STALE_PRICE")}
        assert all(answer["retryable"] for answer in refused)
        assert stack.counter("order_manager", "orders_acked") == acked
        prices.mend() if how == "cut gateway link" else stack.signal(victim, signal.SIGCONT)
        stack.wait_until("healthy", lambda: not unhealthy(stack, shows, monkeypatch), 10)
        assert stack.wait(60) == 0
        ours = stack.outcome()
    assert first_difference(ours, expected) is None


def test_limits_on_prices_and_rates_change_no_replay(tmp_path: Path, expected: Outcome) -> None:
    """A full ring ages prices and moves the book on: held back, never dropped, never for ever."""
    stack = HostStack(
        tmp_path,
        data_path=SAMPLE,
        pace="max",
        ring_capacity_ticks=1024,
        risk_price_age_ms_max=300,
        risk_price_collar_bps=5.0,
        risk_client_orders_per_s_max=200,
        risk_client_repeats_max=3,
        risk_repeat_window_s=0.05,
    )
    with stack:
        wait_for_tick(stack, 5000)
        assert stack.signal("order_manager", signal.SIGSTOP)
        wait_for_full_ring(stack, 1024)
        time.sleep(0.6)  # prices grow older than the limit
        assert stack.signal("order_manager", signal.SIGCONT)
        assert stack.wait(60) == 0
        assert "order_held" in stack.log_path.read_text()
        assert first_difference(stack.outcome(), expected) is None


# ---- Strategies that stand still, leave, or come late


def test_a_strategy_stopped_in_lossless_mode_loses_nothing(
    tmp_path: Path, expected: Outcome
) -> None:
    with HostStack(
        tmp_path, data_path=SAMPLE, pace="20000/s", ring_capacity_ticks=4096, reader_grace_s=0.5
    ) as stack:
        wait_for_tick(stack, 8000)
        assert stack.signal("strategy", signal.SIGSTOP)
        wait_for_full_ring(stack, 4096)
        assert stack.signal("strategy", signal.SIGCONT)
        assert stack.wait(60) == 0
        assert first_difference(stack.outcome(), expected) is None


def test_a_strategy_stopped_in_latest_mode_loses_a_number_and_says_so(tmp_path: Path) -> None:
    with HostStack(
        tmp_path, data_path=SAMPLE, pace="10000/s", ring_capacity_ticks=4096, ring_policy="latest"
    ) as stack:
        wait_for_tick(stack, 5000)
        assert stack.signal("strategy", signal.SIGSTOP)
        seen = stack.counter("orderbook", "ticks_received")
        stack.wait_until(
            "the ring went round",
            lambda: stack.counter("orderbook", "ticks_received") > seen + 12_000,
            20,
        )
        assert stack.signal("strategy", signal.SIGCONT)
        stack.wait_until("lost", lambda: stack.counter("strategy", "ticks_lost") > 4000, 10)
        assert stack.wait(60) == 3
        text = stack.log_path.read_text()
    assert "ticks overwritten in the ring before it read them" in text


def test_an_evicted_strategy_makes_up_for_what_it_missed(tmp_path: Path, expected: Outcome) -> None:
    with HostStack(
        tmp_path, data_path=SAMPLE, pace="20000/s", ring_capacity_ticks=1024, reader_grace_s=0.05
    ) as stack:
        wait_for_tick(stack, 3000)
        stack.hold_restarts()
        assert stack.signal("strategy", signal.SIGKILL)
        stack.wait_until("an eviction", lambda: "reader_evicted" in stack.log_path.read_text(), 20)
        stack.allow_restarts()
        assert stack.wait(60) == 0
        assert first_difference(stack.outcome(), expected) is None


def test_a_strategy_told_to_stop_in_the_middle_is_started_again(
    tmp_path: Path, expected: Outcome
) -> None:
    with HostStack(tmp_path, data_path=SAMPLE, pace="20000/s") as stack:
        wait_for_tick(stack, 10_000)
        assert stack.signal("strategy", signal.SIGTERM)
        assert stack.wait(60) == 0
        assert first_difference(stack.outcome(), expected) is None


def test_a_strategy_that_does_not_repeat_itself_is_refused(tmp_path: Path) -> None:
    """After a restart it would send other orders under the same ids."""
    path, been_here = tmp_path / "whim.py", tmp_path / "been_here"
    path.write_text(
        "from pathlib import Path\n"
        "from app.strategy.base import Strategy\n"
        "class Whim(Strategy):\n"
        "    def __init__(self, context):\n"
        "        super().__init__(context)\n"
        f"        self.odd = Path({str(been_here)!r}).exists()\n"
        f"        Path({str(been_here)!r}).touch()\n"
        "    def on_tick(self, tick):\n"
        "        return 'BUY' if (tick.seq // 100 + self.odd) % 2 else 'SELL'\n"
    )
    with HostStack(
        tmp_path / "run", data_path=SAMPLE, pace="20000/s", strategy=f"{path}:Whim"
    ) as stack:
        wait_for_tick(stack, 5000)
        assert stack.signal("strategy", signal.SIGKILL)
        assert stack.wait(60) == 1
        text = stack.log_path.read_text()
    assert "does not repeat itself" in text
    assert "ERROR main fatal" in text


# ---- Beyond the end of the file


def test_a_walk_goes_on_where_it_was(tmp_path: Path) -> None:
    """The feed behind the file's end is a function of the seed, too."""
    short = tmp_path / "short.csv"
    short.write_text("".join(SAMPLE.read_text().splitlines(keepends=True)[:2001]))
    ticks = 15_000
    settings = Settings(data_path=str(short), replay="walk")
    theirs = of_backtest(backtest.run(settings, open_feed(settings), ticks))
    with HostStack(tmp_path / "run", data_path=short, pace="10000/s", replay="walk") as stack:
        for tick, service in ((3000, "gateway"), (7000, "orderbook"), (10_000, "gateway")):
            wait_for_tick(stack, tick)
            assert stack.signal(service, signal.SIGKILL)
        wait_for_tick(stack, ticks)
        stack.stop()
        ours = stack.outcome().up_to(ticks)
    assert len(ours.orders) > 200
    assert first_difference(ours, theirs._replace(positions=[])) is None


def test_gateway_and_strategy_killed_after_the_feed_has_ended(
    tmp_path: Path, expected: Outcome
) -> None:
    """Nobody but the strategy asks the new gateway for anything; it gets all at full speed."""
    with HostStack(tmp_path, data_path=SAMPLE, pace="20000/s") as stack:
        wait_for_tick(stack, 2000)
        assert stack.signal("order_manager", signal.SIGSTOP)
        stack.wait_until(
            "end of the feed", lambda: stack.counter("orderbook", "ticks_received") == 30_000, 20
        )
        assert stack.signal("gateway", signal.SIGKILL)
        assert stack.signal("strategy", signal.SIGKILL)
        assert stack.signal("order_manager", signal.SIGCONT)
        assert stack.wait(30) == 0
        assert first_difference(stack.outcome(), expected) is None


def test_plain_clients_come_and_go_meanwhile(tmp_path: Path, expected: Outcome) -> None:
    with HostStack(tmp_path, data_path=SAMPLE, pace="20000/s") as stack:
        for tick in (2000, 8000, 14_000):
            wait_for_tick(stack, tick)
            with socket.create_connection(("127.0.0.1", stack.price_port), 5) as plain:
                assert plain.recv(100).startswith(b"SYMBOLS|")
            answer = new_order(stack)
            assert answer["ok"]
        assert stack.wait(60) == 0
        ours = stack.outcome()
    theirs = Outcome(*expected)
    mine = [line for line in ours.orders if line.client == "strategy"]
    assert mine == theirs.orders


# ---- Live, and with ticks lost: no order for what was missed


@pytest.mark.parametrize(
    "mode", [{"trading_mode": "live"}, {"ring_policy": "latest"}], ids=["live", "latest"]
)
def test_a_restarted_strategy_keeps_its_positions_and_lets_the_past_be(
    tmp_path: Path, expected: Outcome, mode: dict[str, str]
) -> None:
    with HostStack(tmp_path, data_path=SAMPLE, pace="10000/s", **mode) as stack:
        for tick in (5000, 12_000):
            wait_for_tick(stack, tick)
            assert stack.signal("strategy", signal.SIGKILL)
        assert stack.wait(60) in (0, 3)
        ours = stack.outcome()
        assert "resends_orders=False" in stack.log_path.read_text()
    assert len(ours.orders) > 300
    ticks = [line.tick for line in ours.orders]
    assert ticks == sorted(set(ticks))
    for position in ours.positions:
        assert position.qty in (-10, 10), "as after the first order: long or short, never more"
    if "trading_mode" in mode:  # nothing was lost, so nothing differs
        assert first_difference(ours, expected) is None
