"""Our processes with the peers of the original design, in both directions."""

import os
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.strategy import (
    MarketDataPoint,
    SentimentDataPoint,
    SentimentStrategy,
    WindowedMovingAverageStrategy,
    cross_check,
)
from tests.support.children import eventually
from tests.support.environ import default_environ
from tests.support.feed_helpers import START_NS, make_feed, make_settings, write_ticks
from tests.support.feed_helpers import running as running_gateway
from tests.support.orders.original_peers import (
    OrderManager,
    PriceGateway,
    Row,
    SentimentGateway,
    read_triples,
    send_order,
)
from tests.support.orders.server import running as running_orders
from tests.support.paths import ROOT

PEERS = ROOT / "tests" / "support" / "orders" / "original_peers.py"
START_S = START_NS // 10**9
FLAT_ROWS = 100
"""No signal: the strategy has the sentiment before the first price that decides."""


def rows() -> list[Row]:
    """Two symbols, up and down; four ticks in a second."""
    found: list[Row] = []
    for tick in range(600):
        symbol, sentiment = (("AAPL", 80), ("MSFT", 20))[tick % 2]
        wave = 0 if tick < FLAT_ROWS else tick % 90 - 40
        second = tick // 4
        moment = f"2025-10-01 09:{30 + second // 60:02}:{second % 60:02}"
        fraction = ("", ".25", ".500000001", ".75")[tick % 4]
        found.append((moment + fraction, symbol, f"{150 + wave / 8:.3f}", sentiment))
    return found


def expected_orders(stream: list[Row]) -> list[tuple[float, str, str, int, float]]:
    """One order on each agreement of the two plain strategies."""
    average, mood = WindowedMovingAverageStrategy(5, 20), SentimentStrategy()
    orders = []
    for tick, (moment, symbol, price, sentiment) in enumerate(stream):
        signal = cross_check(
            average.generate_signals(MarketDataPoint(moment, symbol, float(price))),
            mood.generate_signal(SentimentDataPoint(moment, symbol, sentiment)),
        )
        if signal != "HOLD":
            fraction = (0.0, 0.25, 0.500000001, 0.75)[tick % 4]
            orders.append((START_S + tick // 4 + fraction, signal, symbol, 10, float(price)))
    return orders


@contextmanager
def processes(folder: Path, *services: str, **settings: object) -> Iterator[Path]:
    """Some of our processes, with segments of their own; yields the path of their log."""
    token = f"peers_{secrets.token_hex(4)}"
    environ = {
        **default_environ(),
        "GATEWAY_HOST": "127.0.0.1",
        "ORDER_MANAGER_HOST": "127.0.0.1",
        "OUTPUT_DIR": str(folder),
        "RUN_ID": "run",
        **{f"SHM_{name}": f"{token}_{name.lower()}" for name in SEGMENTS},
        **{name.upper(): str(value) for name, value in settings.items()},
    }
    path = folder / "log"
    started: list[subprocess.Popen[bytes]] = []
    with path.open("wb") as log:
        try:
            for service in services:
                command = [sys.executable, "-m", f"app.{service}"]
                started.append(
                    subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
                )
            yield path
        finally:
            for process in started:
                process.kill()
                process.wait()
            for segment in Path("/dev/shm").glob(f"{token}*"):
                os.unlink(segment)


SEGMENTS = ("PRICE_BOOK", "METADATA", "TICK_RING", "METRICS")


def test_the_peers_know_only_the_written_protocol() -> None:
    assert not re.search(r"^\s*(from|import) app", PEERS.read_text(), re.MULTILINE)


@pytest.mark.medium
def test_original_gateway_and_order_manager_around_our_processes(tmp_path: Path) -> None:
    stream, start = rows(), threading.Event()
    wanted = expected_orders(stream)
    assert {order[1] for order in wanted} == {"BUY", "SELL"}
    with (
        PriceGateway(stream, start) as prices,
        SentimentGateway(stream) as sentiment,
        OrderManager() as manager,
        processes(
            tmp_path,
            "orderbook",
            "strategy",
            price_port=prices.port,
            sentiment_port=sentiment.port,
            order_port=manager.port,
            order_mode="every",
        ) as log,
    ):
        eventually(lambda: "attached" in log.read_text(), "attached")
        start.set()
        eventually(lambda: manager.errors or len(manager.orders) >= len(wanted), "orders")
    assert not manager.errors, manager.errors
    assert manager.orders == wanted


def test_original_clients_read_our_gateway(tmp_path: Path) -> None:
    path = write_ticks(tmp_path / "ticks.csv", 300, sentiment=lambda row: str(row % 101))
    lines = [line.split(",") for line in path.read_text().splitlines()[1:]]
    settings = make_settings(data_path=str(path), price_subscribers=1, sentiment_subscribers=1)
    moods: list[list[str]] = []
    with running_gateway(make_feed(path), settings) as gateway:
        reader = threading.Thread(
            target=lambda: moods.extend(read_triples(gateway.sentiment_port, len(lines))[1])
        )
        reader.start()
        head, ticks = read_triples(gateway.price_port, len(lines), head=1)
        reader.join(20)
    assert head == ["SYMBOLS|" + ",".join(dict.fromkeys(symbol for _, symbol, _, _ in lines))]
    assert ticks == [line[:3] for line in lines]
    assert moods == [[when, symbol, value] for when, symbol, _, value in lines]


def test_original_order_client_with_our_order_manager() -> None:
    with running_orders() as server:
        for number, side in enumerate(("BUY", "SELL", "BUY"), 1):
            sent = {"side": side, "symbol": "AAPL", "qty": 10 * number, "price": 100.5}
            answer = send_order(server.port, ts=START_S + number / 4, **sent)
            assert answer["ok"] is True
            assert {name: answer["order"][name] for name in sent} == sent
            assert float(answer["order"]["ts"]) == START_S + number / 4
        wrong = send_order(server.port, side="BUY", symbol="AAPL", price=1.0)
        assert wrong["ok"] is False
        assert "qty" in wrong["msg"]
