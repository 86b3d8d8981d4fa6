"""Strategies that trade fractions: what they see and may order; the same in four processes."""

import json
import random
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.backtest import replay as backtest
from app.backtest.compare import Comparer
from app.backtest.outcome import first_difference, of_backtest
from app.backtest.result import Result
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.model.money import Scale
from app.runtime.net.position_queries import held
from app.strategy.base import Context, Strategy
from app.strategy.kit.desk import Desk
from tests.app.strategy.kit.fractions.coins import Coins
from tests.chaos.host import HostStack

PLACE = "tests.app.strategy.kit.fractions.coins"
TICKS = 6000
STORE = "orders.sqlite3"
COSTS: dict[str, Any] = {
    "qty_decimals": 8,
    "order_qty": Decimal("0.00150001"),
    "paper_fill_percent": 40,
    "paper_slippage_bps": 0.5,
    "paper_half_spread_bps": 0.25,
    "paper_fee_bps": 1.0,
    "paper_fee_min": 0.0001,
    "paper_impact_bps": 2.0,
    "paper_impact_qty": 0.5,
    "paper_borrow_bps_year": 20_000.0,
    "risk_client_notional_max": 5_000.0,
    "risk_client_exposure_max": 9_000.0,
}


@pytest.fixture(scope="module")
def coins(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Prices of three coins, with up to eight decimals, a second apart."""
    path = tmp_path_factory.mktemp("data") / "coins.csv"
    draw = random.Random(7)
    prices = {"BTCUSDT": 60_000.0, "ETHUSDT": 2_500.0, "DOGEUSDT": 0.12345678}
    decimals = {"BTCUSDT": 2, "ETHUSDT": 2, "DOGEUSDT": 8}
    lines = ["timestamp,symbol,price"]
    for seq in range(TICKS):
        symbol = draw.choice(list(prices))
        prices[symbol] *= 1 + draw.gauss(0, 0.0008)
        at = f"2025-10-01 {seq // 3600:02d}:{seq // 60 % 60:02d}:{seq % 60:02d}"
        lines.append(f"{at},{symbol},{prices[symbol]:.{decimals[symbol]}f}")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def run(path: str, strategy: str, **changes: Any) -> Result:
    settings = Settings(
        data_path=path, replay="once", strategy=f"{PLACE}:{strategy}", **COSTS | changes
    )
    return backtest.run(settings, open_feed(settings))


def test_a_strategy_sees_floats_of_what_is_exact(coins: str) -> None:
    Coins.ended.clear()
    result = run(coins, "Coins")
    (seen,) = Coins.ended
    assert seen.kinds == {float}
    scale = Scale(8)
    held: dict[str, int] = {}
    told = iter(seen.told)
    assert len(result.orders) == len(seen.told) > 1000
    codes = set()
    for order in result.orders:
        order_id, qty, *more = next(told)
        assert order_id == order.id
        if order.code:
            assert qty == order.qty / 10**8
            codes.add(more[0])
            continue
        held[order.symbol] = held.get(order.symbol, 0) + order.side * order.filled_qty
        wanted = [order.filled_qty, order.qty, held[order.symbol]]
        assert [qty, *more[:2]] == [units / 10**8 for units in wanted]
        assert more[2] == order.fee / 10**17
        assert scale.own_qty(more[1]) == held[order.symbol]
    assert {name: p.qty for name, p in result.positions.items()} == held
    assert codes >= {"NOTIONAL_MAX", "GROSS_EXPOSURE"}
    # Closing leaves nothing, not even what a float could not show.
    assert any(more[1] == 0 for _, _, *more in seen.told if len(more) == 3)


def test_quantities_that_no_order_can_have_are_refused() -> None:
    context = Context(["A"], Settings(qty_decimals=2))
    context.orders.active = context.desk.told = True
    strategy = Strategy(context)
    assert strategy.buy("A", 1).qty == 1.0
    assert strategy.buy("A", 0.125).qty == 0.12
    assert strategy.sell("A", Decimal("0.03")).qty == 0.03  # type: ignore[arg-type]
    for wrong in (0, 0.004, -1.0, 1e16, float("nan"), "1", True):
        with pytest.raises(ValueError, match=r"a number from 1e-2 \(QTY_DECIMALS=2\) to 1,000,000"):
            strategy.buy("A", wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be a number, negative to be short"):
        strategy.target("A", "1")  # type: ignore[arg-type]
    placed = strategy.target("A", -0.5)
    assert placed is not None
    assert (placed.side, placed.qty) == ("SELL", 1.59)


@given(
    decimals=st.integers(1, 9),
    units=st.integers(1, 10**18),
    short=st.booleans(),
)
@example(decimals=9, units=12_345_678_123_456_789, short=False)
def test_what_is_held_can_be_closed_whatever_its_size(
    decimals: int, units: int, short: bool
) -> None:
    """Its float has 15 to 17 digits; an order for it leaves nothing of the others."""
    context = Context(["A"], Settings(qty_decimals=decimals))
    units = min(units, context.desk.scale.qty_max)
    context.orders.active = context.desk.told = True
    strategy = Strategy(context)
    context.desk.execute(0, -1 if short else 1, units, 10**9)
    held = strategy.position("A")
    assert strategy.target("A", held) is None
    closing = strategy.buy("A", -held) if short else strategy.sell("A", held)
    assert closing._qty == units
    assert strategy.target("A", 0) is None, "the order above is on its way"


def test_whole_quantities_are_integers() -> None:
    context = Context(["A"], Settings())
    context.orders.active = context.desk.told = True
    strategy = Strategy(context)
    order = strategy.buy("A", 3)
    assert type(order.qty) is type(order.left_qty) is type(strategy.position("A")) is int
    with pytest.raises(ValueError, match="must be a whole number of shares, 1 to"):
        strategy.buy("A", 0.5)
    with pytest.raises(ValueError, match="must be a whole number of shares, negative"):
        strategy.target("A", 1.5)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("strategy", "kills"),
    [("Coins", ()), ("Coins", ("order_manager", "strategy")), ("Swing", ("strategy",))],
)
def test_four_processes_trade_as_the_backtest(
    coins: str, tmp_path: Path, strategy: str, kills: tuple[str, ...]
) -> None:
    known: dict[str, Any] = {"data_path": coins, "strategy": f"{PLACE}:{strategy}", **COSTS}
    with HostStack(tmp_path, pace="2000/s" if kills else "max", **known) as stack:
        for number, service in enumerate(kills, 1):
            stack.wait_until(
                "ticks",
                lambda n=number: stack.counter("strategy", "ticks_consumed") > 1500 * n,
                60,
            )
            assert stack.signal(service, signal.SIGKILL)
        assert stack.wait(100) == 0, stack.tail(60)
        result = run(coins, strategy)
        assert any(order.filled_qty % 10**8 for order in result.orders)
        assert any(order.borrow for order in result.orders)
        difference = first_difference(stack.outcome(), of_backtest(result), result.scale)
        assert difference is None
    (compared,) = Comparer(Settings(replay="once", **known)).compare(str(tmp_path / STORE))
    assert compared.difference is None
    assert f"{len(result.orders):,} orders" in str(compared)
    report = json.loads((tmp_path / "report.json").read_text())
    assert result.trades_hash in json.dumps(report)
    found = report["profit"]
    assert found["realized"] + found["unrealized"] == pytest.approx(result.curve.equity[-1])
    # Each row of an answer is rounded to 1e-9 by itself, and so is each cost of the backtest.
    assert found["costs"] == pytest.approx(result.costs.figures(), rel=1e-9, abs=1e-8)


def test_holdings_come_back_from_the_order_manager_exactly() -> None:
    """After a restart that repeats nothing; a float would not keep these digits."""
    price = 12_345_678_123_456_789
    row: dict[str, Any] = {
        "symbol": "A", "qty": Decimal("-123456789.12345678"), "avg_cost": Decimal(price) / 10**9,
        "realised": Decimal("-9007199.25474099300000001"), "fees": 2, "borrow": Decimal("1e-17"),
        "open_buy": Decimal("0.00000001"), "open_sell": 0,
    }  # fmt: skip
    answer = {"ok": True, "positions": [row], "more": False}
    assert held(lambda _request: answer, "me", Scale(8)) == {"A": -12345678912345677}
    with pytest.raises(ValueError, match="of over 2 decimals"):
        held(lambda _request: answer, "me", Scale(2))
    desk = Desk(["A"], Scale(8))
    desk.told = True
    desk.restore(0, row)
    found = desk.holding(0)
    assert (found.qty, found.avg_cost) == (-12345678912345678, price)
    assert found.realized == -900719925474099300000001
    assert (found.fees, found.borrow) == (2 * 10**17, 1)
