"""What shorts cost, by whose time, and what is said about it."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.settings import Settings
from app.execution.prices import BookPrice
from app.model.money import UNITS
from app.model.position import YEAR_NS, Position
from app.model.wire.order_json import decode
from app.order_manager.service import OrderService, build_service
from app.order_manager.store.prune import prune_file
from app.order_manager.store.store import OrderStore
from app.order_manager.store.tools import reading, verify
from tests.support.orders.prices import PROOF, Prices

START_NS = 1_760_000_000 * UNITS
DAY_NS = 86_400 * UNITS
TICK_S = 1_759_300_000


@given(
    st.integers(1, 10**24), st.integers(1, 10**15), st.integers(0, 10**15),
    st.integers(0, 50 * YEAR_NS), st.integers(-(2**62), 2**62),
)  # fmt: skip
def test_a_short_costs_its_share_of_the_year(
    sold_for: int, qty: int, rate: int, held_ns: int, since_ns: int
) -> None:
    short = Position(-qty, -sold_for, since_ns=since_ns)
    exact = Fraction(sold_for) * rate / (10_000 * UNITS) * held_ns / YEAR_NS
    assert short.accrued(rate, since_ns + held_ns) == round(exact)
    assert short.accrued(rate, since_ns - held_ns) == 0
    assert Position(-qty, -sold_for).accrued(rate, since_ns + held_ns) == 0
    assert Position(qty, sold_for, since_ns=since_ns).accrued(rate, since_ns + held_ns) == 0


class World:
    """An order manager's service with a clock and a book that the test sets."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.path, self.settings = path, {"paper_borrow_bps_year": 365.0, **settings}
        self.now_ns = START_NS
        self.prices = Prices(AAPL=50.0)
        self.start()

    def start(self) -> None:
        self.store = OrderStore.open(str(self.path), run_id="run")
        self.service: OrderService = build_service(
            Settings(**self.settings), self.store, self.prices
        )
        self.service._clock = lambda: self.now_ns

    def crash(self) -> None:
        """As after SIGKILL: positions as they were last written."""
        self.store.checkpointer.unwritten.clear()
        self.store.close()
        self.start()

    def book(self, price: float, event_s: float) -> None:
        seq = self.prices.book["AAPL"].seq + 1
        event_ns = round(event_s * UNITS)
        self.prices.book["AAPL"] = BookPrice(round(price * UNITS), 0, seq, None, event_ns)

    def ask(self, **request: Any) -> dict[str, Any]:
        self.service.begin()
        self.service.handle(0, decode(json.dumps(request).encode()))
        ((_, answer),) = self.service.finish()
        self.store.end_batch()
        return dict(json.loads(answer[:-1]))

    def order(self, side: str, qty: int, price: float, day: float, client: str) -> dict[str, Any]:
        """An order of a day after the first; a strategy's is of that day's tick."""
        request = {"side": side, "symbol": "AAPL", "qty": qty, "price": price, "client": client}
        if client.startswith("strategy"):
            request |= {"proof": PROOF, "ts": TICK_S + day * 86_400}
        else:
            self.now_ns = START_NS + round(day * DAY_NS)
        answer = self.ask(**request)
        assert answer["ok"], answer
        return dict(answer["order"])

    def position(self) -> dict[str, Any]:
        answer = self.ask(op="positions")
        (row,) = answer["positions"]
        for name in ("realised", "unrealised", "borrow", "accrued", "fees", "turnover"):
            assert row[name] == answer["total"][name]
        return dict(row)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "orders.sqlite3")


@pytest.mark.parametrize("client", ["strategy@1", "ann"])
def test_an_execution_charges_the_time_since_the_one_before(world: World, client: str) -> None:
    """A basis point a day: 100 shares sold at 50 cost 0.5 a day."""
    assert "borrow" not in world.order("SELL", 100, 50.0, 0, client)
    order = world.order("SELL", 100, 50.0, 2, client)
    assert order["borrow"] == 1.0
    order = world.order("BUY", 50, 51.0 if client == "ann" else 50.0, 3, client)
    assert order["borrow"] == 1.0
    # 150 are left, sold for 7,500; the last ones go, and 10 are bought.
    world.crash()
    order = world.order("BUY", 160, 51.0 if client == "ann" else 50.0, 3.5, client)
    assert order["borrow"] == 0.375
    assert "borrow" not in world.order("SELL", 5, 50.0, 9, client)
    row = world.position()
    assert (row["qty"], row["borrow"], row["accrued"]) == (5, 2.375, 0)
    assert row["realised"] == -2.375
    assert row["turnover"] == 415 * 50
    world.store.close()
    assert verify(str(world.path)) == []


def test_a_strategys_short_owes_up_to_the_tick_that_it_is_marked_at(world: World) -> None:
    world.order("SELL", 100, 50.0, 0, "strategy@1")
    world.now_ns += 100 * DAY_NS
    world.book(52.0, TICK_S + 4 * 86_400)
    row = world.position()
    assert (row["accrued"], row["borrow"]) == (2.0, 0)
    assert row["unrealised"] == -200 - 2.0
    world.crash()
    assert world.position() == row
    del world.prices.book["AAPL"]
    assert world.position()["accrued"] == 0


def test_anybody_elses_short_owes_up_to_now(world: World) -> None:
    world.order("SELL", 100, 50.0, 0, "ann")
    world.book(52.0, TICK_S)
    world.now_ns = START_NS + 4 * DAY_NS
    row = world.position()
    assert (row["accrued"], row["unrealised"]) == (2.0, -202.0)


def test_a_resting_order_is_charged_at_the_time_of_its_execution(world: World) -> None:
    for client, borrow in (("ann", 1.5), ("strategy@1", 3.5)):
        world.now_ns = START_NS
        world.book(50.0, TICK_S)
        world.order("SELL", 100, 50.0, 0, client)
        request = {"side": "BUY", "symbol": "AAPL", "qty": 100, "price": 49.0, "type": "LIMIT"}
        request["tif"] = "GTC"
        assert world.ask(**request, client=client, ts=TICK_S)["ok"]
        world.now_ns = START_NS + 3 * DAY_NS
        request = {"op": "positions", "client": client}
        (row,) = world.ask(**request)["positions"]
        assert row["qty"] == -100
        world.now_ns = START_NS + 3 * DAY_NS
        world.book(49.0, TICK_S + 7 * 86_400)
        world.ask(op="ping")
        (row,) = world.ask(**request)["positions"]
        assert (row["qty"], row["borrow"]) == (0, borrow)


def test_what_was_short_before_there_was_a_price_is_charged_from_its_next_fill(
    tmp_path: Path,
) -> None:
    world = World(tmp_path / "orders.sqlite3", paper_borrow_bps_year=0.0)
    world.order("SELL", 100, 50.0, 0, "strategy@1")
    world.settings["paper_borrow_bps_year"] = 365.0
    world.crash()
    assert "borrow" not in world.order("SELL", 100, 50.0, 2, "strategy@1")
    assert world.order("BUY", 200, 50.0, 3, "strategy@1")["borrow"] == 1.0


def test_the_limit_on_the_daily_loss_counts_what_is_charged(tmp_path: Path) -> None:
    """A tenth a day: 250 for half a day, charged by the second order."""
    path = tmp_path / "orders.sqlite3"
    world = World(path, paper_borrow_bps_year=365_000.0, risk_client_daily_loss_max=100.0)
    world.order("SELL", 100, 50.0, 0, "strategy@1")
    assert world.order("SELL", 1, 50.0, 0.5, "strategy@1")["borrow"] == 250.0
    request = {"side": "SELL", "symbol": "AAPL", "qty": 1, "price": 50.0, "client": "strategy@1"}
    answer = world.ask(**request, proof=PROOF, ts=TICK_S + 43_201)
    assert answer["code"] == "DAILY_LOSS"


def test_costs_beyond_64_bits_are_stored_and_come_back(tmp_path: Path) -> None:
    world = World(
        tmp_path / "orders.sqlite3",
        paper_slippage_bps=10_000,
        paper_borrow_bps_year=1_000_000.0,
        paper_fee_per_share=1000.0,
    )
    price, qty = 8_000_000_000.0, 10**9
    world.order("SELL", qty, price, 0, "strategy@1")
    world.order("SELL", 1, price, 365, "strategy@1")
    row = world.position()
    assert row["slippage"] == pytest.approx((qty + 1) * price)
    assert row["fees"] == (qty + 1) * 1000.0
    assert row["borrow"] == 100 * qty / 1e9
    world.crash()
    assert world.position() == row
    world.store.close()
    assert verify(str(world.path)) == []


def test_what_a_removed_run_owed_is_removed_with_it(tmp_path: Path) -> None:
    world = World(tmp_path / "orders.sqlite3")
    world.order("SELL", 100, 50.0, 0, "strategy@1")
    world.book(52.0, TICK_S + 4 * 86_400)
    world.store.close()
    path = str(world.path)
    assert _accruals(path) == [2 * UNITS]
    store = OrderStore.open(path, run_id="later")
    service: OrderService = build_service(Settings(), store, world.prices)
    service._clock = lambda: START_NS + 9 * DAY_NS
    service.begin()
    request = {"side": "BUY", "symbol": "AAPL", "qty": 1, "price": 60, "client": "ann"}
    service.handle(0, decode(json.dumps(request).encode()))
    service.finish()
    store.end_batch()
    store.close()
    assert prune_file(path, START_NS + DAY_NS).removed == ["run"]
    assert _accruals(path) == []


def _accruals(path: str) -> list[int]:
    with reading(path) as connection:
        return [borrow for (borrow,) in connection.execute("SELECT borrow FROM accruals")]
