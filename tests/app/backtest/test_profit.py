"""One profit: report, positions, export, backtest, and a computation that has none of our code."""

import csv
import json
import signal
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import pandas
import pytest

from app.__main__ import main
from app.backtest import replay as backtest
from app.backtest import report as backtest_report
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.runtime.metrics.tables import plain_text
from tests.chaos.host import HostStack
from tests.support.paths import ROOT, SHARED_DATA

SAMPLE = ROOT / "data" / "market_data.csv"
IN_PART = {"paper_slippage_bps": 12.5, "paper_fill_percent": 30}
COSTS = {
    "paper_fee_per_share": 0.0051,
    "paper_fee_bps": 0.3,
    "paper_fee_min": 0.35,
    "paper_half_spread_bps": 1.25,
}
RUNS: list[Any] = [
    pytest.param(SAMPLE, (), {}, id="calm"),
    pytest.param(SAMPLE, ("order_manager", "strategy"), {}, id="kills"),
    pytest.param(SAMPLE, ("strategy", "order_manager"), IN_PART, id="kills, filled in part"),
    pytest.param(SAMPLE, ("order_manager", "strategy"), {**IN_PART, **COSTS}, id="kills, costs"),
    *(
        pytest.param(SHARED_DATA / f"{name}.csv", (), IN_PART, id=name)
        for name in (
            "equity_1min_3sym_utc",
            "binance_spot_2sym_epoch_ns",
            "binance_spot_2sym_iso_ms_Z",
            "tsla_ticks_us_utc",
            "wiki_daily_5sym_2000_2013",
        )
    ),
]


def independent_fee(shares: int, notional: Decimal, settings: dict[str, Any]) -> Decimal:
    """The fee of one order, by decimals."""
    per_share, bps, least = (
        Decimal(str(settings.get(f"paper_fee_{name}", 0))) for name in ("per_share", "bps", "min")
    )
    cost = shares * per_share + notional * bps / 10_000
    cost = cost.quantize(Decimal("1e-9"), ROUND_HALF_EVEN)
    return max(cost, least) if shares else Decimal(0)


def independent_profit(
    path: Path, orders: list[dict[str, str]], settings: dict[str, Any]
) -> tuple[float, float, float]:
    """Realized and open profit, and fees in it, by pandas and decimals.

    At average cost and the last tick.
    """
    ticks = pandas.read_csv(path, dtype=str, usecols=["symbol", "price"])
    last = ticks.groupby("symbol")["price"].last().map(Decimal)
    realized = opened = fees = Decimal(0)
    for symbol, rows in pandas.DataFrame(orders).groupby("symbol"):
        held, average = 0, Decimal(0)
        columns = (rows[name] for name in ("side", "filled_qty", "avg_price"))
        for side, shares, text in zip(*columns, strict=True):
            signed, price = int(shares) * (1 if side == "BUY" else -1), Decimal(text)
            fees += independent_fee(int(shares), int(shares) * price, settings)
            closed = min(abs(held), abs(signed)) if held * signed < 0 else 0
            realized += closed * (price - average) * (1 if held > 0 else -1)
            if abs(signed) > closed:
                cost = average * (abs(held) - closed) + price * (abs(signed) - closed)
                average = cost / (abs(held + signed))
            held += signed
        opened += held * (last[symbol] - average)
    return float(realized - fees), float(opened), float(fees)


@pytest.mark.medium
@pytest.mark.parametrize(("path", "kills", "settings"), RUNS)
def test_all_that_shows_a_profit_shows_the_same(
    tmp_path: Path, path: Path, kills: tuple[str, ...], settings: dict[str, Any]
) -> None:
    if not path.exists():
        pytest.skip(f"{path} is not here; TRADING_SHARED_DATA names its folder")
    pace = "20000/s" if kills else "max"
    with HostStack(tmp_path, data_path=path, pace=pace, **settings) as stack:
        for number, service in enumerate(kills, 1):
            stack.wait_until(
                "ticks",
                lambda n=number: stack.counter("strategy", "ticks_consumed") > 7000 * n,
                30,
            )
            assert stack.signal(service, signal.SIGKILL)
        assert stack.wait(60) == 0, stack.tail(60)
        printed = stack.log_path.read_text()
    chosen = Settings(data_path=str(path), replay="once", **settings)
    result = backtest.run(chosen, open_feed(chosen))
    with backtest_report.write_orders(result, tmp_path).open() as file:
        *theirs, fees = independent_profit(path, list(csv.DictReader(file)), settings)
    _check_prices(result, settings)
    assert theirs[1] != 0, "positions are open at the end"
    wanted = [round(value, 2) for value in (*theirs, sum(theirs))]
    text = (tmp_path / "performance_report.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| strategy@")]
    shown = [float(cell.replace(",", "")) for cell in rows[-1].strip("| ").split(" | ")[1:]]
    assert bool(fees) == any(name.startswith("paper_fee") for name in settings)
    assert shown == pytest.approx(wanted, abs=0.011)
    costs = [line.split(" | ")[1] for line in text.splitlines() if line.startswith("| fees |")]
    assert costs == ([f"{fees:,.2f}"] if settings else [])
    assert "Profit at the last prices" in printed
    summary = plain_text(*backtest_report.blocks(result, "x", 100_000))
    cells = next(line for line in summary.splitlines() if line.startswith("all")).split()
    assert [float(cell.replace(",", "")) for cell in cells[-3:]] == shown
    assert result.curve.equity[-1] == pytest.approx(sum(theirs))
    assert _exported(tmp_path) == pytest.approx((*theirs, fees, fees))
    assert json.loads((tmp_path / "report.json").read_text())["exit_code"] == 0


def _check_prices(result: Any, settings: dict[str, Any]) -> None:
    """Each order is executed at its tick's price, worse by slippage and half the spread."""
    bps = sum(
        Decimal(str(settings.get(f"paper_{name}_bps", 0))) for name in ("slippage", "half_spread")
    )
    for order in result.orders:
        worse = round(Decimal(order.price) * bps / 10_000)
        assert order.exec_price == order.price + order.side * worse


def _exported(folder: Path) -> tuple[float, ...]:
    """Realized and open profit of the export, and the fees of its positions and of its fills."""
    store = str(folder / "orders.sqlite3")
    assert main(["store", "--store", store, "export", str(folder / "export")]) == 0
    with (folder / "export" / "positions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "export" / "fills.csv").open(newline="") as file:
        of_fills = sum(Decimal(row["fee"]) for row in csv.DictReader(file))
    names = ("realised", "unrealised", "fees")
    return (*(float(sum(Decimal(row[name]) for row in rows)) for name in names), float(of_fills))
