"""While replaying, nothing that depends on the clock changes the outcome."""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.backtest.outcome import of_store
from app.config.settings import Settings
from app.execution.accounts import STACK_CLIENT_NO, Account
from app.execution.order_core import OrderCore
from app.execution.paper_exchange import PaperExchange
from app.execution.prices import BookPrice, NoPrices
from app.execution.risk import RiskGate
from app.execution.risk_config import Limits, RiskConfig
from app.model.money import UNITS
from app.model.orders import BUY, IOC, PLAIN
from app.model.reject_codes import RejectCode
from app.model.requests import OrderRequest
from app.model.wire.order_json import decode, encode_order
from app.order_manager.service import OrderService
from app.order_manager.store.store import OrderStore, StoreUnavailableError
from app.runtime.lifecycle import Backoff
from app.runtime.net.order_client import EncodedOrder, OrderClient
from tests.support.orders.instead import Instead
from tests.support.orders.process import Client
from tests.support.orders.server import running

MS = 1_000_000
NS = 1_000_000_000


def order(number: int, client: str = "desk") -> bytes:
    """A frame without its delimiter."""
    return encode_order(number, client, "BUY", "AAPL", 10, 100.0 + number, 1_735_689_600 * 10**9)[
        :-1
    ]


class Desk:
    """An order service with a clock that the test sets."""

    def __init__(self, **config: Any) -> None:
        self.now_ns = 1_760_000_000 * NS
        gate = RiskGate(RiskConfig(**config), NoPrices(), Account(STACK_CLIENT_NO, ""))
        store = OrderStore.open(":memory:")
        core = OrderCore(gate, PaperExchange(NoPrices()), store.pending, store)
        self.service: OrderService = OrderService(core, store, lambda: self.now_ns)

    def batch(self, *frames: tuple[str, bytes]) -> list[tuple[str, str]]:
        """Peer and code ("ok", "again" for a duplicate) of each answer of one batch."""
        self.service.begin()
        for peer, frame in frames:
            self.service.handle(peer, decode(frame))
        found = []
        for peer, answer in self.service.finish():
            body = msgspec.json.decode(answer[:-1])
            code = body.get("code", "again" if body.get("duplicate") else "ok")
            assert body.get("retryable", False) == (code in ("RATE_LIMIT", "BEHIND_HELD"))
            found.append((peer, code))
        return found


RATES = {"client": Limits(orders_per_s_max=2)}


def test_orders_after_a_held_order_wait_for_it() -> None:
    desk = Desk(**RATES)
    assert desk.batch(*[("a", order(n)) for n in (1, 2, 3, 4)]) == [
        ("a", "ok"),
        ("a", "ok"),
        ("a", "RATE_LIMIT"),
        ("a", "BEHIND_HELD"),
    ]
    desk.now_ns += NS
    # Order 5 was in flight after them; the rate limit alone would allow it now.
    assert desk.batch(("a", order(5))) == [("a", "BEHIND_HELD")]
    assert desk.batch(*[("a", order(n)) for n in (3, 4, 5)]) == [
        ("a", "ok"),
        ("a", "ok"),
        ("a", "RATE_LIMIT"),
    ]
    desk.now_ns += NS
    assert desk.batch(("a", order(5)), ("a", order(6))) == [("a", "ok"), ("a", "ok")]


def test_other_clients_do_not_wait() -> None:
    desk = Desk(**RATES)
    desk.batch(*[("a", order(n)) for n in (1, 2, 3)])
    assert desk.batch(("a", order(1, "other")), ("b", order(4, "third"))) == [
        ("a", "ok"),
        ("b", "ok"),
    ]


def test_a_new_connection_has_no_held_orders_and_repeats_are_answered() -> None:
    desk = Desk(**RATES)
    desk.batch(*[("a", order(n)) for n in (1, 2, 3, 4)])
    desk.now_ns += NS
    assert desk.batch(*[("b", order(n)) for n in (1, 2, 3, 4)]) == [
        ("b", "again"),
        ("b", "again"),
        ("b", "ok"),
        ("b", "ok"),
    ]
    desk.service.held.forget(lambda peer: peer == "a")
    assert desk.batch(("a", order(4))) == [("a", "again")]


def test_nothing_waits_in_live_trading() -> None:
    desk = Desk(replaying=False, **RATES)
    desk.service.begin()
    for number in (1, 2, 3):
        desk.service.handle("a", decode(order(number)))
    answers = [answer for _, answer in desk.service.finish()]
    assert b"RATE_LIMIT" in answers[2]
    desk.now_ns += NS
    assert desk.batch(("a", order(4))) == [("a", "ok")]


@pytest.mark.medium
@pytest.mark.parametrize("rate", [7, 40])
def test_a_rate_limit_delays_a_client_and_keeps_its_sequence(tmp_path: Path, rate: int) -> None:
    numbers = list(range(1, 31))
    with running(tmp_path, risk_client_orders_per_s_max=rate, run_id="r") as server:
        client = OrderClient("127.0.0.1", server.port, 5.0, backoff=Backoff(10, 40))
        answers = client.submit([EncodedOrder(n, order(n) + b"*") for n in numbers])
        client.close()
        assert all(answer.ok for answer in answers)
    outcome = of_store(tmp_path / "orders.sqlite3")
    assert [line.tick + 1 for line in outcome.orders] == numbers
    assert len(outcome.fills) == len(numbers)


def test_a_full_disk_does_not_reorder_orders_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(5)
    numbers = list(range(1, 61))
    with running(tmp_path, order_group_max=4, run_id="r") as server:
        service, store = server.server._service, server.server._store

        def commit() -> bool:
            if dice.random() < 0.3:
                raise StoreUnavailableError("full")
            return store.commit()

        monkeypatch.setattr(service, "store", Instead(store, commit=commit))
        client = OrderClient("127.0.0.1", server.port, 5.0, backoff=Backoff(10, 40))
        orders = [EncodedOrder(n, order(n) + b"*") for n in numbers]
        assert all(a.ok for a in client.submit(orders))
        client.close()
    assert [line.tick + 1 for line in of_store(tmp_path / "orders.sqlite3").orders] == numbers


def test_the_reject_names_the_held_order(tmp_path: Path) -> None:
    with running(tmp_path, risk_client_orders_per_s_max=1, run_id="r") as server:
        with Client(server.port) as client:
            for number in (1, 2, 3):
                client.send(order(number) + b"*")
            answers = [client.read() for _ in range(3)]
        assert [a.get("code") for a in answers] == [None, "RATE_LIMIT", "BEHIND_HELD"]
        assert "order 2 was held back" in answers[2]["msg"]
        assert answers[2]["retryable"] is True


# Prices


class Prices:
    """A price source with one price, set by the test."""

    def __init__(self, book: BookPrice) -> None:
        self.book = book

    def read(self, symbol: str) -> BookPrice | None:
        """The price."""
        return self.book

    def knows(self, symbol: str) -> bool | None:
        """Every symbol."""
        return True

    def at_tick(self, proof: str | None) -> bool | None:
        """No order is a strategy's."""
        return False


def code_of(book: BookPrice, *, replaying: bool, ts: str | None, number: int = 8) -> RejectCode:
    """The code of a gate (collar 1 %, price age limit 500 ms) for an order at 100."""
    config = RiskConfig(price_collar_bps=100.0, price_age_ms_max=500, replaying=replaying)
    scope = Account(STACK_CLIENT_NO, "")
    request = OrderRequest(BUY, "AAPL", 1, 100 * UNITS, ts, number, "desk", PLAIN, IOC)
    reject = RiskGate(config, Prices(book), scope).check(request, Account(1, "desk"), 0)
    return RejectCode.OK if reject is None else reject.code


EVENT_NS = 1_735_689_600 * NS
TS = '"2025-01-01 00:00:00"'


@pytest.mark.parametrize(
    ("age_ms", "feed_age_ms", "replaying", "live"),
    [
        (100, 100, RejectCode.OK, RejectCode.OK),
        (9000, 100, RejectCode.OK, RejectCode.STALE_PRICE),
        (9000, 600, RejectCode.STALE_PRICE, RejectCode.STALE_PRICE),
        (9000, None, RejectCode.STALE_PRICE, RejectCode.STALE_PRICE),
        (100, 600, RejectCode.OK, RejectCode.OK),
    ],
)
def test_a_price_ages_with_its_feed_while_replaying(
    age_ms: int, feed_age_ms: int | None, replaying: RejectCode, live: RejectCode
) -> None:
    feed_age_ns = None if feed_age_ms is None else feed_age_ms * MS
    book = BookPrice(100 * UNITS, age_ms * MS, 7, feed_age_ns, EVENT_NS)
    assert code_of(book, replaying=True, ts=TS) == replaying
    assert code_of(book, replaying=False, ts=TS) == live


def test_settings_name_the_mode() -> None:
    for mode in ("replay", "live"):
        values = msgspec.structs.asdict(Settings(trading_mode=mode))
        assert RiskConfig.from_values(values).replaying is (mode == "replay")
