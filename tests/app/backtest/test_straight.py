"""Orders that no rule touches are executed without the order core, and are the same as with it."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.backtest.broker import PaperBroker
from app.config.settings import Settings
from app.execution.accounts import KILLED
from app.execution.paper_exchange import PaperExchange
from app.execution.prices import NoPrices
from app.execution.venue import Execution, Report
from app.kernel import _kernel
from app.market_data.sources.loader import open_feed
from app.model.orders import Order
from app.model.position import Position
from app.model.reject_codes import RejectCode
from app.model.wire.order_json import encode_order
from app.runtime.net.order_client import EncodedOrder
from app.shared_memory_utils.tick_ring import TICK_DTYPE
from app.strategy import Strategy
from app.strategy.kit.held import Held
from app.strategy.kit.stepping import wants_answers
from tests.support.paths import ROOT

SYMBOLS = ["AAPL", "MSFT", "SPY"]
S = 1_000_000_000


class Careful(PaperBroker):
    """Always asks the order core."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.core._venue = Unsure(self.core._venue)


class Unsure:
    """The venue, without its word that it takes all orders as asked."""

    def __init__(self, venue: Any) -> None:
        self.submit, self.poll, self.committed = venue.submit, venue.poll, venue.committed


def ticks_of(rows: list[tuple[int, int, int]]) -> Any:
    ticks = np.zeros(len(rows), TICK_DTYPE)
    for at, (symbol, cents, _) in enumerate(rows):
        ticks[at]["seq"], ticks[at]["symbol"] = at, symbol
        ticks[at]["price"], ticks[at]["event_ns"] = cents / 100, S * (1 + at) + at % 3 * 1000
    return ticks


def run(
    broker: PaperBroker, rows: list[tuple[int, int, int]], every: bool, pieces: int, qty: int = 10
) -> Any:
    shares = Held(len(SYMBOLS), qty, every)
    busy = np.zeros(len(SYMBOLS), np.uint8)
    gate = _kernel.OrderGate(shares.position, busy, SYMBOLS, every, 64)
    ticks, signals = ticks_of(rows), np.array([row[2] for row in rows], np.int8)
    fills: list[Any] = []
    for piece in np.array_split(np.arange(len(rows)), pieces):
        if len(piece):
            part = slice(piece[0], piece[-1] + 1)
            fills += broker.trade(gate.one_by_one(ticks[part], signals[part]), shares, "strategy")
    return fills, [shares.qty(index) for index in range(len(SYMBOLS))]


def state(position: Position) -> tuple[Any, ...]:
    p = position
    return p.qty, p.cost, p.realized, p.mark, p.fill_no, p.turnover, p.costs


ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 90_000_000), st.sampled_from([0, 1, -1, 2])),
    max_size=60,
)


@hypothesis_settings(deadline=None)
@given(rows=ROWS, every=st.booleans(), pieces=st.integers(1, 4), decimals=st.sampled_from([0, 8]))
def test_the_same_orders_fills_and_positions(
    rows: list[tuple[int, int, int]], every: bool, pieces: int, decimals: int
) -> None:
    if every:
        rows = [(symbol, cents, signal if signal != 2 else 0) for symbol, cents, signal in rows]
    chosen = Settings(qty_decimals=decimals)
    straight, careful = PaperBroker(chosen, SYMBOLS), Careful(chosen, SYMBOLS)
    taken, asked = run(straight, rows, every, pieces), run(careful, rows, every, pieces)
    assert taken == asked
    assert straight.count == careful.count
    assert straight.take_orders() == careful.take_orders()
    for name, position in careful.positions("strategy").items():
        assert state(straight.positions("strategy")[name]) == state(position)
    totals = careful.core.stack.positions
    for name, total in straight.core.stack.positions.items():
        expected = totals[name].qty, totals[name].cost, totals[name].mark
        assert (total.qty, total.cost, total.mark) == expected


@hypothesis_settings(deadline=None, max_examples=50)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 1),
            st.integers(200_000_000, 800_000_000_000),
            st.sampled_from([1, -1, 2]),
        ),
        min_size=20,
        max_size=60,
    ),
    qty=st.sampled_from([2**40, 2**50 - 1, 2**51 + 1, 2**52, 2**53 + 1]),
    every=st.booleans(),
)
def test_beyond_what_the_kernel_can_count_the_core_goes_on(
    rows: list[tuple[int, int, int]], qty: int, every: bool
) -> None:
    """Amounts up to 2^53 units at prices up to 8e9 leave the 128 bits after some orders."""
    chosen = Settings(qty_decimals=8)
    straight, careful = PaperBroker(chosen, SYMBOLS), Careful(chosen, SYMBOLS)
    assert run(straight, rows, every, 3, qty) == run(careful, rows, every, 3, qty)
    assert straight.take_orders() == careful.take_orders()
    for name, position in careful.positions("strategy").items():
        assert state(straight.positions("strategy")[name]) == state(position)
    assert list(straight.positions("strategy")) == list(careful.positions("strategy"))


def test_orders_are_looked_at_between_batches() -> None:
    """As the proof of a running stack does: what is held goes on."""
    told = []
    for kind in (PaperBroker, Careful):
        broker = kind(Settings(), SYMBOLS)
        shares = Held(len(SYMBOLS), 10, False)
        busy = np.zeros(len(SYMBOLS), np.uint8)
        gate = _kernel.OrderGate(shares.position, busy, SYMBOLS, False, 64)
        ticks = ticks_of([(at % 3, 100 + at, 0) for at in range(40)])
        signals = np.array([(1, -1, 2, 1, 0)[at % 5] for at in range(40)], np.int8)
        seen: list[Any] = []
        for first in range(0, 40, 8):
            part = slice(first, first + 8)
            seen += broker.trade(gate.one_by_one(ticks[part], signals[part]), shares, "strategy")
            if first % 16:
                seen += broker.take_orders()
            seen += [state(each) for each in broker.positions("strategy").values()]
        total = broker.core.stack.positions["AAPL"]
        seen += [*broker.take_orders(), broker.core.last_fill_no, total.qty, total.cost, total.mark]
        told.append(seen)
    assert told[0] == told[1]


def frame(order_id: int) -> EncodedOrder:
    text = encode_order(order_id, "strategy", "BUY", "AAPL", 10, 1.0, S, None)
    return EncodedOrder(order_id, text)


def test_an_order_of_another_kind_follows_on_the_same_state() -> None:
    both: list[tuple[list[Order], Any]] = []
    for kind in (PaperBroker, Careful):
        broker = kind(Settings(), SYMBOLS)
        run(broker, [(0, 100, 1), (0, 200, -1), (1, 300, 1)], False, 1)
        broker.submit(frame(100), S)
        assert broker.count == 4
        first = broker.take_orders()
        broker.submit(frame(101), S)
        both.append((first + broker.take_orders(), state(broker.positions("strategy")["AAPL"])))
    assert both[0] == both[1]
    assert [order.order_no for order in both[0][0]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "touched",
    [
        {"paper_fee_bps": 1.0},
        {"paper_slippage_bps": 1.0},
        {"paper_fill_percent": 50},
        {"paper_borrow_bps_year": 1.0},
        {"risk_client_qty_max": 19},
        {"risk_client_position_qty_max": 100},
        {"risk_stack_daily_loss_max": 5.0},
        {"risk_symbols_max": 2},
        {"paper_half_spread_bps": 0.5},
        {"paper_fee_min": 0.01},
        {"paper_fee_per_share": 0.01},
        {"paper_impact_bps": 1.0, "paper_impact_qty": 10.0},
        {"risk_lot_size": 3},
        {"risk_stack_exposure_max": 1e12},
        {"risk_tick_size": 0.01},
        {"risk_client_notional_max": 1e12},
    ],
)
def test_where_a_rule_may_touch_an_order_the_core_is_asked(touched: dict[str, Any]) -> None:
    for more, straight in (({}, True), (touched, False)):
        broker = PaperBroker(Settings(**more), SYMBOLS)
        account = broker.core.open_account("strategy")
        assert broker.core.executes_all(account, SYMBOLS, 20) == straight


def test_the_sample_is_traded_straight(monkeypatch: pytest.MonkeyPatch) -> None:
    """The orders of the run are made when somebody looks, and hash as those of the stack."""
    from app.backtest import replay

    chosen = Settings(data_path=str(Path(ROOT) / "data/market_data.csv"), replay="once")
    feed = open_feed(chosen)
    result = replay.run(chosen, feed)
    monkeypatch.setattr(replay, "PaperBroker", Careful)
    careful = replay.run(chosen, feed)
    assert len(result.orders) == len(careful.orders) > 100
    assert result.trades_hash == careful.trades_hash
    assert list(result.orders) == list(careful.orders)
    assert result.curve.equity == careful.curve.equity


def test_a_pulled_kill_switch_stops_the_next_batch() -> None:
    broker = PaperBroker(Settings(), SYMBOLS)
    run(broker, [(0, 100, 1)], False, 1)
    broker.core.set_mode(None, KILLED, "", 0)
    fills, _ = run(broker, [(1, 100, 1)], False, 1)
    assert fills == []
    assert [order.code for order in broker.take_orders()] == [0, RejectCode.KILL_SWITCH]


def test_a_venue_of_others_is_asked() -> None:
    class Refusing(PaperExchange):
        def submit(self, order: Order, at_tick: bool) -> Report:
            return Report(reject=(RejectCode.NO_MARKET, "closed"))

    broker = PaperBroker(Settings(), SYMBOLS)
    broker.core._venue = Refusing(NoPrices())
    fills, _ = run(broker, [(0, 100, 1)], False, 1)
    assert fills == []
    assert [order.msg for order in broker.take_orders()] == ["closed"]


@pytest.mark.parametrize("number", [10.0, Decimal(10), np.float64(10), True, np.int64(10)])
def test_an_execution_is_of_whole_numbers(number: Any) -> None:
    """Compiled or not: a float must not lose its fraction without a word."""
    with pytest.raises(TypeError, match="int, not"):
        Execution(number, 100)


def test_a_class_whose_method_is_replaced_is_read_again() -> None:
    class Mine(Strategy):
        def on_tick(self, tick: Any) -> str:
            return "HOLD"

    def asking(self: Mine, tick: Any) -> str:
        return "BUY" if not self.position(tick.symbol) else "HOLD"

    assert not wants_answers(Mine, Strategy)
    Mine.on_tick = asking  # type: ignore[method-assign]
    assert wants_answers(Mine, Strategy)
