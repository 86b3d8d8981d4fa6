"""Kill any process, get the same trades: the four processes on this host under faults."""

import secrets
import signal
import socket
import time
from collections import defaultdict
from pathlib import Path

import pytest

from app.backtest import replay as backtest
from app.backtest.outcome import Outcome, first_difference, of_backtest
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.runtime.container.health import Unhealthy, check_heartbeat
from tests.chaos.bad_feed import BadFeed, Faults
from tests.chaos.host import PROCESSES, HostStack, dying
from tests.chaos.run_host import run_once, scenarios, undisturbed
from tests.support.orders.process import Client
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

SAMPLE = ROOT / "data" / "market_data.csv"
PROXY_HOST = "127.0.0.2"


@pytest.fixture(scope="module")
def expected() -> Outcome:
    """The outcome of an undisturbed run over the sample."""
    return undisturbed(SAMPLE)


def consumed(stack: HostStack) -> int:
    """Ticks consumed by the strategy."""
    return stack.counter("strategy", "ticks_consumed")


def wait_for_tick(stack: HostStack, tick: int) -> None:
    """Wait until the strategy has consumed ``tick`` ticks."""
    stack.wait_until(f"tick {tick}", lambda: consumed(stack) >= tick, 30)


def wait_for_full_ring(stack: HostStack, capacity: int) -> None:
    """Wait until the orderbook waits for the strategy."""
    stack.wait_until(
        "a full ring", lambda: stack.counter("orderbook", "queue_depth") == capacity, 20
    )


# ---- Seeded chaos.  python -m tests.chaos.run_host does more runs.


@pytest.mark.parametrize("number", range(7))
def test_seeded_chaos(tmp_path: Path, number: int) -> None:
    seed = secrets.randbelow(10**6)
    scenario = scenarios(tmp_path)[number]
    expected = undisturbed(scenario.data_path, **scenario.settings)
    verdict = run_once(seed, scenario, expected, 5, tmp_path)
    report = verdict.report_path.read_text()
    assert verdict.difference is None, f"seed {seed}, scenario {number}\n{report}"


def test_every_order_mode_survives_kills(tmp_path: Path) -> None:
    """Many orders in the same symbol: their sequence decides the profit."""
    expected = undisturbed(SAMPLE, order_mode="every")
    stack = HostStack(tmp_path, data_path=SAMPLE, pace="10000/s", order_mode="every")
    with stack:
        for tick, service in ((4000, "order_manager"), (9000, "strategy"), (15000, "orderbook")):
            wait_for_tick(stack, tick)
            assert stack.signal(service, signal.SIGKILL)
        assert stack.wait(60) == 0
        assert first_difference(stack.outcome(), expected) is None


# ---- Time to recover


def test_trades_again_within_5_s_of_any_kill(tmp_path: Path, expected: Outcome) -> None:
    took_s = {}
    with HostStack(tmp_path, data_path=SAMPLE, pace="2500/s") as stack:
        for number, service in enumerate(PROCESSES):
            wait_for_tick(stack, 3000 + 6000 * number)
            published = stack.counter("orderbook", "ticks_received")
            started_s = time.monotonic()
            assert stack.signal(service, signal.SIGKILL)
            # First a new tick, then a new order.
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
    """Whether the container's health check would fail."""
    with monkeypatch.context() as patch:
        patch.setenv("SHM_METRICS", stack.metrics_name)
        patch.setenv("HEARTBEAT_TIMEOUT_S", "1")
        try:
            check_heartbeat(service)
        except Unhealthy:
            return True
    return False


def new_order(stack: HostStack, symbol: str = "AAPL") -> dict[str, object]:
    """The order manager's answer to a plain client's order at the market."""
    with Client(stack.order_port) as client:
        return client.ask({"side": "BUY", "symbol": symbol, "qty": 1, "price": 1000.0})


@pytest.mark.parametrize("how", ["cut gateway link", "paused gateway", "paused orderbook"])
def test_no_order_on_a_stale_price(
    tmp_path: Path, expected: Outcome, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a current price every order is rejected; afterwards the run continues."""
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
        started_s = time.monotonic()
        observed = "strategy" if victim == "orderbook" else "orderbook"
        stack.wait_until("unhealthy", lambda: unhealthy(stack, observed, monkeypatch), 5)
        assert time.monotonic() - started_s < 4
        stack.wait_until("STALE_PRICE", lambda: new_order(stack)["code"] == "STALE_PRICE", 5)
        acked = stack.counter("order_manager", "orders_acked")
        rejected = [new_order(stack) for _ in range(20)]
        assert {(answer["ok"], answer["code"]) for answer in rejected} == {(False, "STALE_PRICE")}
        assert all(answer["retryable"] for answer in rejected)
        assert stack.counter("order_manager", "orders_acked") == acked
        prices.restore() if how == "cut gateway link" else stack.signal(victim, signal.SIGCONT)
        stack.wait_until("healthy", lambda: not unhealthy(stack, observed, monkeypatch), 10)
        assert stack.wait(60) == 0
        ours = stack.outcome()
    assert first_difference(ours, expected) is None


def test_limits_on_prices_and_rates_change_no_outcome(tmp_path: Path, expected: Outcome) -> None:
    """A full ring makes prices old: orders are held back, never dropped, never held forever."""
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
        time.sleep(0.6)  # prices become older than the limit
        assert stack.signal("order_manager", signal.SIGCONT)
        assert stack.wait(60) == 0
        assert "order_held" in stack.log_path.read_text()
        assert first_difference(stack.outcome(), expected) is None


# ---- Strategies that are stopped, evicted or restarted


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


def test_a_strategy_stopped_in_latest_mode_reports_the_ticks_it_lost(tmp_path: Path) -> None:
    with HostStack(
        tmp_path, data_path=SAMPLE, pace="10000/s", ring_capacity_ticks=4096, ring_policy="latest"
    ) as stack:
        wait_for_tick(stack, 5000)
        assert stack.signal("strategy", signal.SIGSTOP)
        seen = stack.counter("orderbook", "ticks_received")
        stack.wait_until(
            "the ring wrapped",
            lambda: stack.counter("orderbook", "ticks_received") > seen + 12_000,
            20,
        )
        assert stack.signal("strategy", signal.SIGCONT)
        stack.wait_until("lost", lambda: stack.counter("strategy", "ticks_lost") > 4000, 10)
        assert stack.wait(60) == 3
        text = stack.log_path.read_text()
    assert "ticks overwritten in the ring before it read them" in text


def test_an_evicted_strategy_catches_up(tmp_path: Path, expected: Outcome) -> None:
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


def test_a_strategy_terminated_in_the_middle_is_restarted(
    tmp_path: Path, expected: Outcome
) -> None:
    with HostStack(tmp_path, data_path=SAMPLE, pace="20000/s") as stack:
        wait_for_tick(stack, 10_000)
        assert stack.signal("strategy", signal.SIGTERM)
        assert stack.wait(60) == 0
        assert first_difference(stack.outcome(), expected) is None


def test_a_strategy_that_does_not_repeat_itself_ends_the_run(tmp_path: Path) -> None:
    """After a restart it would send different orders under the same ids."""
    path, marker = tmp_path / "whim.py", tmp_path / "started_before"
    path.write_text(
        "from pathlib import Path\n"
        "from app.strategy.base import Strategy\n"
        "class Whim(Strategy):\n"
        "    def __init__(self, context):\n"
        "        super().__init__(context)\n"
        f"        self.odd = Path({str(marker)!r}).exists()\n"
        f"        Path({str(marker)!r}).touch()\n"
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
    assert "is not repeatable" in text
    assert "ERROR main fatal" in text


# ---- A strategy that goes flat

REVERTING = """
from collections import defaultdict, deque
from app.strategy import Strategy

class Reverting(Strategy):
    def __init__(self, context):
        super().__init__(context)
        self.last = defaultdict(lambda: deque(maxlen=20))

    def on_tick(self, tick):
        last = self.last[tick.symbol]
        last.append(tick.price)
        away = tick.price / (sum(last) / len(last)) - 1
        if abs(away) < 0.0001:
            return "FLAT"
        return "SELL" if away > 0.001 else "BUY" if away < -0.001 else "HOLD"
"""


@pytest.mark.parametrize("mode", ["undisturbed", "replay", "live"])
def test_a_strategy_that_goes_flat_trades_like_the_backtest(tmp_path: Path, mode: str) -> None:
    kills = () if mode == "undisturbed" else (9000, 15_000, 21_000)
    path = tmp_path / "reverting.py"
    path.write_text(REVERTING)
    expected = undisturbed(SAMPLE, strategy=f"{path}:Reverting")
    held, closing = defaultdict[str, int](int), 0
    for order in expected.orders:
        held[order.symbol] += order.qty if order.side == "BUY" else -order.qty
        assert held[order.symbol] in (-10, 0, 10)
        closing += held[order.symbol] == 0
    assert closing > 300
    assert len(expected.orders) - closing > 300
    with HostStack(
        tmp_path / "run",
        data_path=SAMPLE,
        pace="10000/s" if kills else "max",
        trading_mode="live" if mode == "live" else "replay",
        strategy=dying(tmp_path, REVERTING, "Reverting", kills),
    ) as stack:
        if mode == "replay":
            wait_for_tick(stack, 3000)
            assert stack.signal("order_manager", signal.SIGKILL)
        assert stack.wait(60) == 0, stack.tail()
        assert first_difference(stack.outcome(), expected) is None
        log = stack.log_path.read_text()
    assert "now=FLAT" in log
    deaths = log.count("process_died process=strategy")
    assert (deaths >= 2) if kills else (deaths == 0), "two of its ticks may be in one batch"


# ---- After the last row of the file


def test_a_walk_continues_where_it_was(tmp_path: Path) -> None:
    """After the last row the feed is a function of the seed."""
    short = tmp_path / "short.csv"
    short.write_text("".join(SAMPLE.read_text().splitlines(keepends=True)[:2001]))
    ticks = 15_000
    settings = Settings(data_path=str(short), replay="walk")
    expected = of_backtest(backtest.run(settings, open_feed(settings), ticks))
    with HostStack(tmp_path / "run", data_path=short, pace="10000/s", replay="walk") as stack:
        for tick, service in ((3000, "gateway"), (7000, "orderbook"), (10_000, "gateway")):
            wait_for_tick(stack, tick)
            assert stack.signal(service, signal.SIGKILL)
        wait_for_tick(stack, ticks)
        stack.stop()
        ours = stack.outcome().up_to(ticks)
    assert len(ours.orders) > 200
    assert first_difference(ours, expected._replace(positions=[])) is None


def test_gateway_and_strategy_killed_after_the_feed_has_ended(
    tmp_path: Path, expected: Outcome
) -> None:
    """Only the strategy reads from the new gateway, at full pace."""
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


def test_plain_clients_connect_and_disconnect_meanwhile(tmp_path: Path, expected: Outcome) -> None:
    with HostStack(tmp_path, data_path=SAMPLE, pace="20000/s") as stack:
        for tick in (2000, 8000, 14_000):
            wait_for_tick(stack, tick)
            with socket.create_connection(("127.0.0.1", stack.price_port), 5) as plain:
                assert plain.recv(100).startswith(b"SYMBOLS|")
            answer = new_order(stack)
            assert answer["ok"]
        assert stack.wait(60) == 0
        ours = stack.outcome()
    assert [line for line in ours.orders if line.client == "strategy"] == expected.orders


# ---- Live mode and lost ticks: no order for a missed tick


@pytest.mark.parametrize(
    "mode", [{"trading_mode": "live"}, {"ring_policy": "latest"}], ids=["live", "latest"]
)
def test_a_restarted_strategy_keeps_its_positions_and_sends_no_late_orders(
    tmp_path: Path, expected: Outcome, mode: dict[str, str]
) -> None:
    source = "from app.strategy.cross_check import CrossCheck"
    strategy = dying(tmp_path, source, "CrossCheck", (5000, 15_000))
    with HostStack(
        tmp_path / "run", data_path=SAMPLE, pace="10000/s", strategy=strategy, **mode
    ) as stack:
        assert stack.wait(60) in (0, 3)
        ours = stack.outcome()
        assert stack.log_path.read_text().count("resends_orders=False") == 2
    assert len(ours.orders) > 300
    ticks = [line.tick for line in ours.orders]
    assert ticks == sorted(set(ticks))
    for position in ours.positions:
        assert position.qty in (-10, 10), "long or short by one order, never more"
    if "trading_mode" in mode:  # no tick lost: same outcome
        assert first_difference(ours, expected) is None
