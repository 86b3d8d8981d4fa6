"""The page of one run: how good it was, what it did, what it cost, and what it was of."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from app.backtest.performance.summary import ANNUAL_DAYS_MIN, label
from app.backtest.results.facts import facts
from app.backtest.results.finished_run import FinishedRun
from app.backtest.results.metrics import SHARES
from app.backtest.results.page.chart import Line, chart
from app.backtest.results.page.heat import months
from app.backtest.results.page.look import STYLE, document
from app.backtest.results.page.markup import Child, Html, details, html, section, table, tag
from app.backtest.results.page.symbols import price_section, price_style
from app.backtest.results.tables import Table

FORMULAS: Final = {
    "total_return": "all days together: the product of 1 + r, less 1; r is the return of a day",
    "annual_return": "compound growth: (1 + total return) ^ (days a year / days) - 1",
    "volatility": "standard deviation of r, with n - 1, times the root of the days a year",
    "sharpe": "mean of r / standard deviation of r, times the root of the days a year; no "
    "risk-free rate. W. F. Sharpe: The Sharpe Ratio. Journal of Portfolio Management 21 (1), "
    "1994",
    "sortino": "mean of r / downside deviation, times the root of the days a year; the deviation "
    "is the root of the mean of min(r, 0) squared. F. A. Sortino, L. N. Price: Performance "
    "Measurement in a Downside Risk Framework. Journal of Investing 3 (3), 1994",
    "calmar": "annual return / largest drawdown. T. W. Young: Calmar Ratio: A Smoother Tool. "
    "Futures 20 (11), 1991",
    "max_drawdown": "the largest fall from a peak of the equity at the ends of days",
}
"""Measure -> how it is computed, and who defined it so."""
NAMES: Final = {name: name.replace("_", " ") for name in FORMULAS} | {
    "sharpe": "Sharpe ratio",
    "sortino": "Sortino ratio",
    "calmar": "Calmar ratio",
    "max_drawdown": label("max_drawdown"),
}


def run_page(run: FinishedRun) -> str:
    """The file as text."""
    about = facts(run)
    name = run.settings.strategy.rpartition(":")[2]
    return document(
        f"Backtest: {name}",
        _head(run, about, name),
        _curves(run.tables["equity"], run.capital),
        section(
            "Months",
            months(run.tables["daily"]),
            note="A month counts the days in the data. Blue is a gain, orange a loss.",
        ),
        _measures(run),
        price_section(run),
        _symbols(run.tables["positions"]),
        _use_of_capital(run),
        _costs(run),
        _refusals(run.tables["orders"]),
        _origin(run, about),
        style=price_style(run),
    )


def notebook_part(run: FinishedRun) -> Html:
    """What a notebook shows of a run: the figures on top, and the equity."""
    name = run.settings.strategy.rpartition(":")[2]
    equity = run.tables["equity"]
    at = equity["time_utc"].astype(np.int64)
    lines = [
        Line("strategy", "first", at, equity["equity"]),
        Line("buy and hold", "second", at, equity["benchmark_equity"]),
    ]
    parts = (_head(run, facts(run), name), chart("Equity", lines))
    return tag("div", Html(f"<style>{STYLE}</style>"), *parts, class_="report")


def _head(run: FinishedRun, about: Mapping[str, Any], name: str) -> Html:
    of = run.metrics
    data = about["data"]
    figures = [
        ("profit", money(of["profit"])),
        ("total return", share(of["total_return_pct"])),
        ("buy and hold", share(of["benchmark_total_return_pct"])),
        ("Sharpe ratio", plain(of["sharpe"])),
        (label("max_drawdown"), share(of["max_drawdown_pct"])),
        ("trades", f"{of['trades']:,}"),
        ("turnover", f"{plain(of['turnover_x'])} x"),
        ("all costs", money(of["all_costs"])),
    ]
    cells = [tag("div", tag("dt", label), tag("dd", value)) for label, value in figures]
    span = f"{_short(data['first_utc'])} to {_short(data['last_utc'])}"
    return html(
        tag("h1", f"Backtest: {name}"),
        tag("p", tag("code", run.params or "no parameters"), " on ", tag("code", run.data.name)),
        tag("p", f"Ticks: {run.result.ticks_text}; {span} UTC. Trades hash ",
            tag("code", run.trades_hash), ", the same as the stack's.", class_="note"),
        tag("dl", *cells, class_="figures"),
    )  # fmt: skip


def _short(time: str | None) -> str:
    return "-" if time is None else time[:19].replace("T", " ")


def _curves(equity: Table, capital: float) -> Html:
    at = equity["time_utc"].astype(np.int64)
    held = equity["benchmark_equity"]
    peak = np.maximum.accumulate(np.maximum(held, capital)) if len(held) else held
    return section(
        "Equity",
        chart(
            "Equity",
            [
                Line("strategy", "first", at, equity["equity"]),
                Line("buy and hold", "second", at, held),
            ],
        ),
        chart(
            "Drawdown",
            [
                Line("strategy", "first", at, equity["drawdown_pct"]),
                Line("buy and hold", "second", at, 100 * (held / peak - 1)),
            ],
            unit=" %",
            low=True,
            area=True,
        ),
        note="Capital and profit, holdings at their latest price. Buy and hold puts equal parts of "
        "the capital into each symbol at its first tick, without costs.",
    )


def _measures(run: FinishedRun) -> Html:
    of = run.metrics
    rows: list[list[Child]] = []
    for name, how in FORMULAS.items():
        key = f"{name}_pct" if name in SHARES else name
        show = share if name in SHARES else plain
        rows.append(
            [
                NAMES[name],
                show(of[key]),
                show(of[f"benchmark_{key}"]),
                tag("td", how, class_="prose"),
            ]
        )
    note = f"From {of['days']:,} days, {of['days_a_year']} a year, on {run.capital:,.0f}."
    if (of["days"] or 0) < ANNUAL_DAYS_MIN:
        note += f" From fewer than {ANNUAL_DAYS_MIN} days nothing is told about a year."
    if of["total_return_pct"] is None:
        note += " All of the capital was lost, so returns cannot be told: measure with more."
    header = ["measure", "strategy", "buy and hold", "formula"]
    return section("Measures", table("Measures by day", header, rows), note=note)


def _symbols(positions: Table) -> Html:
    order = np.argsort(-positions["turnover"], kind="stable").tolist()
    names = ("realised_profit", "open_profit", "profit", "fees", "turnover")
    rows: list[list[Child]] = []
    for place in order:
        average = float(positions["avg_price"][place])
        rows.append(
            [
                str(positions["symbol"][place]),
                f"{positions['orders'][place]:,}",
                f"{positions['filled_orders'][place]:,}",
                f"{positions['qty'][place]:,}",
                "-" if np.isnan(average) else f"{average:,.4f}",
                f"{positions['last_price'][place]:,.4f}",
                *(money(float(positions[name][place])) for name in names),
            ]
        )
    header = ["symbol", "orders", "filled", "position", "average price", "last price"]
    header += ["realised", "open", "profit", "fees", "traded"]
    return section("Symbols", table("Each symbol at the end, most traded first", header, rows))


def _use_of_capital(run: FinishedRun) -> Html:
    equity = run.tables["equity"]
    at = equity["time_utc"].astype(np.int64)
    return section(
        "Exposure and turnover",
        chart(
            "Exposure",
            [
                Line("gross", "first", at, equity["exposure_gross"]),
                Line("net", "second", at, equity["exposure_net"]),
            ],
            zero=True,
            low=True,
        ),
        chart(
            "Turnover since the start",
            [Line("turnover", "first", at, equity["turnover"] / run.capital)],
            unit=" x",
            zero=True,
            low=True,
        ),
        note="Gross is the value of all holdings, net that of long less short. Mean gross "
        f"exposure {money(run.metrics['exposure_gross_mean'])}, highest "
        f"{money(run.metrics['exposure_gross_max'])}. Turnover is what was bought and sold, as a "
        "multiple of the capital.",
    )


def _costs(run: FinishedRun) -> Html:
    rows: list[list[Child]] = []
    costs = run.result.costs.rows()
    most = max((abs(cost) for _, cost, _ in costs), default=0.0) or 1.0
    for name, cost, bps in costs:
        length = f"width:{8 * abs(cost) / most:.2f}rem"
        bar = tag("span", class_="bar", style=length) if cost else ""
        cell = tag("td", bar, class_="text", aria_hidden="true")
        rows.append([name, money(cost), "-" if bps is None else f"{bps:,.3f}", cell])
    header = ["cost", "money", "bps of turnover", ""]
    return section(
        "Costs",
        table("What trading cost, in the profit", header, rows),
        note="Slippage, half the spread and impact are what executions were worse than the "
        "market's price, and latency is what that was worse than at the decision (below zero: "
        "better); fees and borrow, which is what shorts cost, are paid besides.",
    )


def _refusals(orders: Table) -> Html:
    """How many for each code, with the message of the first."""
    refused = Counter(code for code in orders["code"] if code)
    if not refused:
        return Html("")
    rows: list[list[Child]] = []
    for code, count in refused.most_common():
        first = orders["msg"][np.flatnonzero(orders["code"] == code)[0]]
        rows.append([code, f"{count:,}", tag("td", first or "", class_="prose")])
    header = ["reason", "orders", "the first one"]
    return section("Refused orders", table("Orders refused, by reason", header, rows))


def _origin(run: FinishedRun, about: Mapping[str, Any]) -> Html:
    data = about["data"]
    rows = [
        ("data", run.data.name),
        ("SHA-256 of the file", run.data.sha256 or "none: not a single file"),
        ("feed id (data, seed, settings)", run.data.feed_id),
        ("symbols", f"{data['symbols']:,}"),
        ("ticks", data["ticks"]),
        ("first and last tick, UTC", f"{_short(data['first_utc'])} to {_short(data['last_utc'])}"),
        ("strategy", run.settings.strategy),
        ("parameters", run.params or "none"),
        ("capital", f"{run.capital:,.2f}"),
        ("trades hash", run.trades_hash),
    ]
    settings = list(run.changed_settings.items())
    machine = [(name, str(value)) for name, value in about["machine"].items()]
    return section(
        "What it was of",
        _pairs("The run", rows),
        _pairs("Settings that decide orders and are not the default", settings or [("none", "")]),
        details("The machine", _pairs("The machine that computed it", machine)),
        note="The same data, strategy, parameters and settings give the same trades hash, on any "
        "machine, in a backtest and in the stack.",
    )


def _pairs(caption: str, rows: list[tuple[str, str]]) -> Html:
    cells: list[list[Child]] = [
        [name, tag("td", tag("code", value), class_="prose")] for name, value in rows
    ]
    return table(caption, ["name", "value"], cells, texts=2)


def money(value: float | None) -> str:
    """With two decimals."""
    return "-" if value is None else f"{value:z,.2f}"


def plain(value: float | None) -> str:
    """A ratio."""
    return "-" if value is None else f"{value:z,.2f}"


def share(value: float | None) -> str:
    """Percent."""
    return "-" if value is None else f"{value:z,.2f} %"
