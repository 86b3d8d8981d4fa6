"""Limits on holdings, profit and fills of a replay, recomputed from the data file alone.

The recomputation reads the CSV with pandas and counts in fractions; it has none of our code.
"""

from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pandas
import pytest

from app.backtest import replay as backtest
from app.backtest.outcome import first_difference, of_backtest
from app.backtest.result import Result
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.model.money import UNITS
from app.model.orders import Order
from app.model.reject_codes import RejectCode
from tests.chaos.host import HostStack
from tests.chaos.run_host import MARKED_LIMITS
from tests.support.paths import ROOT, SHARED_DATA

SAMPLE = ROOT / "data" / "market_data.csv"
FILES = {
    SAMPLE: (300, 12_000),
    SHARED_DATA / "equity_1min_3sym_utc.csv": (60, 4_000),
    SHARED_DATA / "tsla_ticks_us_utc.csv": (20, 1_620),
    SHARED_DATA / "binance_spot_2sym_epoch_ns.csv": (2_000, 250_000),
    SHARED_DATA / "wiki_daily_5sym_2000_2013.csv": (5, 3_000),
}
"""Daily loss and exposure at which some orders are denied and others are not."""
LOSES = {(SHARED_DATA / "wiki_daily_5sym_2000_2013.csv", "loss"): False}
"""Whether a day loses that much: with one price a day, only what a limit keeps open can."""


def run(path: Path, **changes: Any) -> Result:
    settings = Settings(**{"data_path": str(path), "replay": "once", **changes})
    return backtest.run(settings, open_feed(settings))


class Row(NamedTuple):
    """A tick of the file."""

    symbol: str
    price: Fraction
    day: Any


def rows_of(path: Path) -> list[Row]:
    found = pandas.read_csv(path, dtype={"price": str, "symbol": str})
    if pandas.api.types.is_integer_dtype(found["timestamp"]):
        days = pandas.to_datetime(found["timestamp"], unit="ns").dt.date
    else:
        days = pandas.to_datetime(found["timestamp"], utc=True, format="mixed").dt.date
    columns = zip(found["symbol"], found["price"], days, strict=True)
    return [Row(symbol, Fraction(price), day) for symbol, price, day in columns]


class Desk:
    """What the orders so far have led to."""

    def __init__(self, loss_max: int, exposure_max: int) -> None:
        self.loss_max, self.exposure_max = loss_max, exposure_max
        self.last: dict[str, Fraction] = {}
        self.held: defaultdict[str, int] = defaultdict(int)
        self.cash = self.base = Fraction(0)
        self.day: Any = None
        self.killed = False

    @property
    def profit(self) -> Fraction:
        return self.cash + sum(qty * self.last[symbol] for symbol, qty in self.held.items())

    def verdict(self, order: Order, day: Any) -> str:
        """The reject code of an order at this moment, "" for none."""
        if self.day is None or day > self.day:
            self.day, self.base = day, self.profit
        values = {symbol: abs(qty) * self.last[symbol] for symbol, qty in self.held.items()}
        signed = order.side * order.qty
        # The worse of the position with the order and without it.
        worst = max(abs(self.held[order.symbol]), abs(self.held[order.symbol] + signed))
        after = {**values, order.symbol: worst * self.last[order.symbol]}
        if self.exposure_max and sum(after.values()) > max(self.exposure_max, sum(values.values())):
            return "GROSS_EXPOSURE"
        if self.loss_max and self.profit - self.base < -self.loss_max:
            self.killed = True
            return "DAILY_LOSS"
        return "KILL_SWITCH" if self.killed else ""


@pytest.mark.medium
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("limit", ["loss", "exposure", "both"])
def test_each_order_is_decided_as_of_its_tick(path: Path, limit: str) -> None:
    if not path.exists():
        pytest.skip(f"no {path}")
    loss_max, exposure_max = FILES[path]
    loss_max *= limit != "exposure"
    exposure_max *= limit != "loss"
    slippage_bps = 20
    result = run(
        path,
        paper_slippage_bps=float(slippage_bps),
        paper_fill_percent=60,
        risk_client_daily_loss_max=float(loss_max),
        risk_stack_exposure_max=float(exposure_max),
    )
    orders = {order.id - 1: order for order in result.orders}
    desk = Desk(loss_max, exposure_max)
    codes: defaultdict[str, int] = defaultdict(int)
    for tick, row in enumerate(rows_of(path)):
        desk.last[row.symbol] = row.price
        order = orders.get(tick)
        if order is None:
            continue
        code = desk.verdict(order, row.day)
        codes[code] += 1
        assert code == (RejectCode(order.code).name if order.code else ""), f"tick {tick}: {order}"
        if code:
            assert order.filled_qty == 0
            continue
        assert 60 * order.qty // 100 <= order.filled_qty <= order.qty
        paid = Fraction(order.filled_notional, order.filled_qty * UNITS)
        slipped = row.price * (1 + order.side * Fraction(slippage_bps, 10_000))
        assert abs(paid - slipped) <= Fraction(1, UNITS), f"tick {tick}: {order}"
        desk.held[order.symbol] += order.side * order.filled_qty
        desk.cash -= order.side * order.filled_qty * paid
    assert codes[""] > 0
    assert (codes["DAILY_LOSS"] > 0) == (limit != "exposure" and LOSES.get((path, limit), True))
    assert (codes["GROSS_EXPOSURE"] > 0) == (limit != "loss"), dict(codes)
    assert result.curve.equity[-1] == pytest.approx(float(desk.profit))


@pytest.mark.medium
def test_the_stack_decides_like_the_backtest(tmp_path: Path) -> None:
    with HostStack(tmp_path, data_path=SAMPLE, pace="max", **MARKED_LIMITS) as stack:
        assert stack.wait(60) == 0, stack.tail(60)
        theirs = of_backtest(run(SAMPLE, **MARKED_LIMITS))
        assert {line.code for line in theirs.orders} == {0, 210, 212, 215}
        assert any(0 < line.filled_qty < line.qty for line in theirs.orders)
        assert first_difference(stack.outcome(), theirs) is None
