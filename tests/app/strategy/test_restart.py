"""A strategy process killed after an order's answer, before its cursor moves, and restarted."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from structlog.testing import capture_logs

from app.config.settings import Settings
from app.kernel import _kernel
from app.market_data.feed import Feed
from app.runtime.lifecycle import FatalError, Stop
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.shared_memory_utils.metadata import SharedMemoryMetadata
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.tick_ring import TickRing
from app.strategy.base import Strategy
from app.strategy.process import StrategyProcess
from tests.support.fake_servers import Connection, FakeServer
from tests.support.feed_helpers import make_feed, make_settings, running, ticks_bytes
from tests.support.kernel.helpers import padded

PRICES = [101, 101, 99, 100, 101, 99]
FIRST_BATCH, SECOND_BATCH = 1, 4


class ByPrice(Strategy):
    """Long above 100, short below; records every tick."""

    seen: list[int] = []  # noqa: RUF012 (one list for every instance)

    def on_tick(self, tick: Any) -> str:
        self.seen.append(tick.seq)
        return "BUY" if tick.price > 100 else "SELL" if tick.price < 100 else "HOLD"


class FlatByPrice(Strategy):
    """Long above 100, short below, flat at 100."""

    def on_tick(self, tick: Any) -> str:
        return "BUY" if tick.price > 100 else "SELL" if tick.price < 100 else "FLAT"


class Killed(Exception):
    """Stands for SIGKILL."""


class DyingReader:
    """A tick reader whose process is killed before its cursor moves."""

    def __init__(self, reader: _kernel.TickReader) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def advance(self, count: int) -> None:
        raise Killed


class OrderManager:
    """Accepts and fills every order; answers queries for orders and positions."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.refuses: dict[str, Any] = {}
        """The answer to every order, if there is one."""

    def serve(self, connection: Connection) -> None:
        while True:
            request = json.loads(connection.frame())
            if request.get("op") == "orders":
                page = self.orders[::-1][: request["limit"]]
                answer: dict[str, Any] = {"ok": True, "orders": page}
            elif request.get("op") == "positions":
                sides = {"BUY": 1, "SELL": -1}
                qty = sum(sides[order["side"]] * order["qty"] for order in self.orders)
                row = {"symbol": "A", "qty": qty, "open_buy": 0, "open_sell": 0}
                answer = {"ok": True, "positions": [row] if self.orders else [], "more": False}
            elif self.refuses:
                answer = {"ok": False, "id": request["id"], **self.refuses}
            else:
                number = len(self.orders) + 1
                self.orders.append({**request, "order_no": number, "status": "Filled"})
                answer = {"ok": True, "order": {"id": request["id"]}}
            connection.send(json.dumps(answer).encode() + b"*")


class Orderbook:
    """The writer's half of the segments, without its process."""

    def __init__(self, settings: Settings, feed: Feed) -> None:
        self.feed, self.sent = feed, 0
        self.metadata = SharedMemoryMetadata(settings.shm_metadata)
        self.book = SharedPriceBook(feed.symbols, settings.shm_price_book)
        self.ring = TickRing.open_writer(settings.shm_tick_ring, 64, settings.ring_policy)
        parser = _kernel.FieldParser(feed.symbols)
        self.writer = _kernel.TickWriter(self.ring.buffer, self.book.buffer, parser)
        boot_id = f"{self.book.boot_id:016x}"
        self.metadata.write({"feed_id": feed.feed_id, "boot_id": boot_id})

    def push_until(self, end: int) -> None:
        data = ticks_bytes(self.feed, self.sent, end)
        assert self.writer.push(padded(data), 0, len(data), time.monotonic_ns())[0] == (
            end - self.sent
        )
        self.sent = end

    def close(self) -> None:
        del self.writer
        for segment in (self.ring, self.book, self.metadata):
            segment.unlink()
            segment.close()


class Surroundings(NamedTuple):
    """The other processes of a strategy process."""

    settings: Settings
    orderbook: Orderbook
    manager: OrderManager
    metrics: ProcessMetrics


@contextmanager
def surroundings(
    path: Path, name: str, strategy: str = "ByPrice", **changes: str
) -> Iterator[Surroundings]:
    """A real gateway, and an order manager and an orderbook that the test controls."""
    rows = [f"2025-10-01 09:30:{second:02},A,{price}\n" for second, price in enumerate(PRICES)]
    path.write_text("timestamp,symbol,price\n" + "".join(rows))
    chosen = make_settings(
        data_path=str(path),
        strategy=f"{__name__}:{strategy}",
        shm_tick_ring=f"{name}_ring",
        shm_price_book=f"{name}_book",
        shm_metadata=f"{name}_metadata",
        shm_metrics=f"{name}_metrics",
        gateway_host="127.0.0.1",
        order_manager_host="127.0.0.1",
        **changes,
    )
    feed, manager = make_feed(path), OrderManager()
    with running(feed, chosen) as gateway, FakeServer(manager.serve) as orders:
        chosen = msgspec.structs.replace(
            chosen,
            price_port=gateway.price_port,
            sentiment_port=gateway.sentiment_port,
            order_port=orders.port,
        )
        orderbook = Orderbook(chosen, feed)
        metrics = ProcessMetrics.open(chosen.shm_metrics, "strategy")
        try:
            yield Surroundings(chosen, orderbook, manager, metrics)
        finally:
            metrics.close()
            orderbook.close()


def run_and_kill(around: Surroundings) -> None:
    """Decide on the first batch, and on the second without moving the cursor."""
    process = StrategyProcess(around.settings, around.metrics, Stop())
    around.orderbook.push_until(FIRST_BATCH)
    process.recover()
    process._take_batch()
    around.orderbook.push_until(SECOND_BATCH)
    process.reader = DyingReader(process.reader)  # type: ignore[assignment]
    with pytest.raises(Killed):
        process.run()
    process.close()


def run_to_end(around: Surroundings) -> None:
    """Start the process and let it consume the rest of the run."""
    process = StrategyProcess(around.settings, around.metrics, Stop())
    around.orderbook.push_until(len(PRICES))
    around.orderbook.writer.finish(len(PRICES))
    process.recover()
    process.run()
    process.close()


MODES = pytest.mark.parametrize(
    "mode", [{"ring_policy": "latest"}, {"trading_mode": "live"}], ids=["latest", "live"]
)


@MODES
def test_what_was_decided_before_a_kill_is_not_decided_again(
    tmp_path: Path, name: str, mode: dict[str, str]
) -> None:
    """The order manager's positions are newer than those that the batch was decided with."""
    with surroundings(tmp_path / "ticks.csv", name, **mode) as around:
        orders, metrics = around.manager.orders, around.metrics
        run_and_kill(around)
        assert [(order["id"], order["side"]) for order in orders] == [(1, "BUY"), (3, "SELL")]
        ByPrice.seen.clear()
        run_to_end(around)
        assert [(order["id"], order["side"], order["qty"]) for order in orders] == [
            (1, "BUY", 10),
            (3, "SELL", 20),
            (5, "BUY", 20),
            (6, "SELL", 20),
        ]
        assert ByPrice.seen == list(range(len(PRICES)))
        signals = sum(metrics.get(f"signals_{side}") for side in ("buy", "sell", "hold"))
        assert metrics.get("ticks_consumed") == signals == len(PRICES)


@MODES
def test_a_flat_position_is_flat_after_a_kill(
    tmp_path: Path, name: str, mode: dict[str, str]
) -> None:
    """The last order before the kill was a BUY that closed a short position."""
    with surroundings(tmp_path / "ticks.csv", name, "FlatByPrice", **mode) as around:
        orders = around.manager.orders
        run_and_kill(around)
        assert (orders[-1]["id"], orders[-1]["side"], orders[-1]["qty"]) == (4, "BUY", 10)
        run_to_end(around)
        assert [(order["id"], order["side"], order["qty"]) for order in orders] == [
            (1, "BUY", 10),
            (3, "SELL", 20),
            (4, "BUY", 10),
            (5, "BUY", 10),
            (6, "SELL", 20),
        ]
        assert around.metrics.get("signals_flat") == 1


@pytest.mark.parametrize(
    ("code", "mend"),
    [
        ("DUPLICATE_ID", "start a new run with another RUN_ID"),
        ("NOT_ALLOWED", "the same RUN_DIR, or OUTPUT_DIR"),
    ],
)
def test_a_refusal_that_a_restart_would_meet_again_is_final(
    tmp_path: Path, name: str, code: str, mend: str
) -> None:
    """It crashed, was restarted, and crashed again, for ever."""
    with surroundings(tmp_path / "ticks.csv", name) as around:
        around.manager.refuses = {"code": code, "msg": "refused"}
        process = StrategyProcess(around.settings, around.metrics, Stop())
        around.orderbook.push_until(FIRST_BATCH)
        with pytest.raises(FatalError, match=mend) as raised:
            process._take_batch()
        assert raised.value.final
        assert str(raised.value).startswith("refused: ")
        process.close()


def test_orders_ahead_of_the_feed_are_said_once(tmp_path: Path, name: str) -> None:
    """Somebody with the stack's token has sent one under this name: no silent standstill."""
    with surroundings(tmp_path / "ticks.csv", name, trading_mode="live") as around:
        run_and_kill(around)
        around.manager.orders[-1]["id"] = 5000
        with capture_logs() as lines:
            run_to_end(around)
        ahead = [line for line in lines if line["event"] == "orders_ahead"]
        assert [(line["id"], line["seq"]) for line in ahead] == [(5000, len(PRICES))]


def test_the_client_has_the_number_of_its_container(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it is the first of its service to start, and after a restart."""
    monkeypatch.setattr("app.strategy.process.replica_number", lambda: 2)
    with surroundings(tmp_path / "ticks.csv", name, trading_mode="live") as around:
        run_and_kill(around)
        run_to_end(around)
        clients = {order["client"] for order in around.manager.orders}
    assert len(clients) == 1
    assert clients.pop().startswith("strategy-2@")
