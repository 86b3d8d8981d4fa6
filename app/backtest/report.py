"""What a backtest shows: a summary, the orders as CSV, the equity curve as SVG."""

import csv
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.console import RenderableType

from app.backtest.performance import measures
from app.backtest.performance.summary import (
    CapitalLost,
    Summary,
    benchmark_returns,
    label,
    strategy_returns,
    summarize,
)
from app.model.money import UNITS
from app.model.order_table import ORDER_COLUMNS, csv_cells, csv_header, order_row, texts_of
from app.model.orders import tick_of_order_id
from app.model.timestamps import NS_PER_S
from app.runtime.metrics.tables import cost_tables, number, table

if TYPE_CHECKING:
    from app.backtest.result import Result

ORDERS_FILE: Final = "orders.csv"
EQUITY_FILE: Final = "equity.svg"


class PlotUnavailable(Exception):
    """The plot needs a package that is not installed."""


def blocks(result: "Result", data_path: str, capital: float) -> list[RenderableType]:
    """The summary as tables: the run, each symbol's trades and profit, the returns by day."""
    buys, sells, flats, holds = result.signals
    filled = sum(1 for order in result.orders if order.filled_qty)
    head = [
        ("data", data_path),
        ("parameters", result.params or "none"),
        ("ticks", result.ticks_text),
        ("ticks/s", number(result.ticks_per_s)),
        ("signals", f"{buys:,} BUY, {sells:,} SELL, {flats:,} FLAT, {holds:,} HOLD"),
        ("orders", f"{len(result.orders):,}, {filled:,} filled"),
        ("trades hash", result.trades_hash),
    ]
    if result.placed:
        counts = (result.placed, result.canceled, result.left_open)
        placed = "{:,}, {:,} canceled, {:,} open at the end".format(*counts)
        head.insert(-2, ("placed by itself", placed))
    if result.left_in_transit:
        head.insert(-1, ("in transit at the end, never sent", number(result.left_in_transit)))
    if result.transit_refused:
        head.insert(-1, ("not made, too many in transit", number(result.transit_refused)))
    header = (
        "symbol",
        "orders",
        "filled",
        "position",
        "avg cost",
        "last",
        "realised",
        "open",
        "PnL",
    )
    tables: list[RenderableType] = [
        table(("fact", "value"), head),
        table(header, _symbol_rows(result)),
        _performance(result, capital),
        *(table(header, rows) for _, header, rows in cost_tables(result.costs.figures())),
    ]
    denied = Counter(order.msg or "" for order in result.orders if order.code)
    if denied:
        rows = [(message, number(count)) for message, count in denied.most_common(10)]
        tables.append(table(("reason for refusal", "orders"), rows))
    return tables


def _performance(result: "Result", capital: float) -> RenderableType:
    """Measures of the daily returns on ``capital``, beside buy and hold."""
    daily = result.curve.daily
    a_year = measures.periods_a_year(np.array(daily.event_ns, np.int64))
    buy_and_hold = summarize(benchmark_returns(daily), a_year)
    try:
        ours = summarize(strategy_returns(daily, capital), a_year)
    except CapitalLost as error:
        return table(("returns by day", "value"), [("cannot be told", str(error))])
    days = len(daily.event_ns)
    notional = result.scale.amount(sum(order.filled_notional for order in result.orders))
    rows = [
        [label(name), *(_measure(name, of) for of in (ours, buy_and_hold))]
        for name in Summary._fields
    ]
    head = f"{days:,} day{'s' if days != 1 else ''}, {a_year} a year, on {capital:,.0f}"
    turnover = f"{notional / capital:,.2f} x"
    return table((head, "strategy", "buy and hold"), [*rows, ["turnover", turnover, "-"]])


PERCENT: Final = {"total_return", "annual_return", "volatility", "max_drawdown"}


def _measure(name: str, summary: Summary) -> str:
    value = getattr(summary, name)
    if value is None:
        return number(None)
    return f"{100 * value:z,.2f} %" if name in PERCENT else number(value, 2)


def _symbol_rows(result: "Result") -> list[list[str]]:
    """One row for each symbol that was traded, and their sum; holdings at the last tick."""
    orders = Counter(order.symbol for order in result.orders)
    filled = Counter(order.symbol for order in result.orders if order.filled_qty)
    rows, realized_sum, open_sum = [], 0.0, 0.0
    amount = result.scale.amount
    for symbol in sorted(orders):
        position = result.positions.get(symbol)
        last = result.last_price[symbol]
        realized = opened = held = 0.0
        if position is not None:
            realized = amount(position.realized)
            held = result.scale.qty(position.qty)
            opened = held * last - amount(position.cost)
            opened -= amount(result.accrued.get(symbol, 0))
        average = position.avg_cost if position is not None else None
        rows.append(
            [
                symbol,
                number(orders[symbol]),
                number(filled[symbol]),
                _qty(held),
                number(None if average is None else average / UNITS, 4),
                number(last, 4),
                number(realized, 2),
                number(opened, 2),
                number(realized + opened, 2),
            ]
        )
        realized_sum += realized
        open_sum += opened
    sums = [number(len(result.orders)), number(sum(filled.values())), "", "", ""]
    money = [number(value, 2) for value in (realized_sum, open_sum, realized_sum + open_sum)]
    return [*rows, ["all", *sums, *money]]


def _qty(value: float) -> str:
    """As many decimals as it has."""
    return f"{value:,.9f}".rstrip("0").rstrip(".")


def write_orders(result: "Result", folder: Path) -> Path:
    """Write the orders in the columns of the store's export, and ``tick`` as the last.

    ``tick`` is the sequence number of the tick that caused the order, and ``at_ns`` the tick's
    time.  ``run_id`` is empty: a backtest is no run of the stack.
    """
    path, texts = folder / ORDERS_FILE, texts_of(result.scale)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*csv_header(ORDER_COLUMNS), "tick"])
        for order in result.orders:
            row = order_row(
                order.order_no,
                "",
                result.client,
                order.id,
                order.at_ns,
                order.ts,
                order.side,
                order.symbol,
                order.qty,
                order.price,
                order.type,
                order.tif,
                order.status,
                order.filled_qty,
                order.filled_notional,
                order.code,
                order.msg,
            )
            writer.writerow([*csv_cells(ORDER_COLUMNS, row, texts), tick_of_order_id(order.id)])
    return path


def write_equity(result: "Result", folder: Path) -> Path:
    """Draw the equity curve over event time.

    Raises:
        PlotUnavailable: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotUnavailable(
            "the equity curve needs matplotlib: pip install matplotlib, or pass --no-plot"
        ) from None
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    times = [datetime.fromtimestamp(ns / NS_PER_S, UTC) for ns in result.curve.event_ns]
    axes.plot(times, result.curve.equity, linewidth=1.2)  # type: ignore[arg-type]
    axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    axes.set_title(f"Equity: {len(result.orders):,} orders over {result.ticks:,} ticks")
    axes.set_xlabel("event time, UTC")
    axes.set_ylabel("profit, currency of the prices")
    axes.grid(alpha=0.3)
    figure.autofmt_xdate()
    path = folder / EQUITY_FILE
    figure.savefig(path)
    return path
