"""Trades on the price of a symbol: one chart each, of which one is shown."""

from typing import Final

import numpy as np

from app.backtest.results.finished_run import FinishedRun
from app.backtest.results.page.chart import Line, Mark, chart, moment
from app.backtest.results.page.markup import Child, Html, details, section, table, tag
from app.backtest.results.tables import Table

SYMBOLS_MAX: Final = 12
MARKS_MAX: Final = 300
"""Of one chart; with more trades, one of each side in each part of the time."""
ROWS_MAX: Final = 100


def shown_symbols(run: FinishedRun) -> list[str]:
    """Those most traded, first the most; of equal ones the first by name."""
    positions = run.tables["positions"]
    order = np.argsort(-positions["turnover"], kind="stable").tolist()
    return [str(positions["symbol"][place]) for place in order][:SYMBOLS_MAX]


def price_style(run: FinishedRun) -> str:
    """Shows the chart of the symbol that is chosen."""
    count = len(shown_symbols(run))
    rules = [
        f".report .prices:has(#symbol-{i}:checked) > .price-{i}{{display:block}}"
        for i in range(count)
    ]
    return ".report .prices > div{display:none}" + "".join(rules) if count > 1 else ""


def price_section(run: FinishedRun) -> Html:
    """All charts, and the choice of one."""
    names = shown_symbols(run)
    if not names:
        return section("Trades", note="There was no order.")
    choice = [
        tag(
            "label",
            tag_input(place, checked=place == 0),
            " ",
            name,
        )
        for place, name in enumerate(names)
    ]
    parts = [tag("div", _prices(run, name), class_=f"price-{i}") for i, name in enumerate(names)]
    chooser = [tag("fieldset", tag("legend", "Symbol"), *choice, class_="symbols")]
    total = len(run.tables["positions"]["symbol"])
    note = "Executions on the lowest and highest prices of each part of the time."
    if total > len(names):
        note += f" The {len(names)} symbols most traded, of {total:,}."
    return section(
        "Trades",
        tag("div", *(chooser if len(names) > 1 else []), *parts, class_="prices"),
        note=note,
    )


def tag_input(place: int, checked: bool) -> Html:
    """One button of the choice; it has no end tag."""
    mark = " checked" if checked else ""
    return Html(f'<input type="radio" name="symbol" id="symbol-{place}"{mark}>')


def _prices(run: FinishedRun, symbol: str) -> Html:
    trades = run.tables["trades"]
    mine = np.flatnonzero(trades["symbol"] == symbol)
    path = run.recorder.prices(run.symbols.index(symbol))
    marks = [_mark(trades, place) for place in spread(trades, mine)]
    left = "" if len(marks) == len(mine) else f", {len(marks):,} of them drawn"
    title = f"{symbol}: {len(mine):,} trades{left}"
    line = Line("price", "price", path.event_ns, path.price)
    return tag(
        "div",
        chart(title, [line], marks=marks, decimals=4),
        details(f"Trades of {symbol} as a table", _table(trades, mine, symbol)),
    )


def spread(trades: Table, places: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[int]:
    """The trades to draw: all, or the first of each side in each part of the time."""
    if len(places) <= MARKS_MAX:
        found: list[int] = places.tolist()
        return found
    at = trades["time_utc"][places].astype(np.int64)
    span = max(int(at[-1]) - int(at[0]), 1)
    part = ((at - at[0]) * ((MARKS_MAX // 2 - 1) / span)).astype(np.int64)
    key = part * 2 + (trades["side"][places] == "BUY")
    _, first = np.unique(key, return_index=True)
    kept: list[int] = places[np.sort(first)].tolist()
    return kept


def _mark(trades: Table, place: int) -> Mark:
    side, price = str(trades["side"][place]), float(trades["price"][place])
    at = int(trades["time_utc"][place].astype(np.int64))
    text = f"{side} {trades['qty'][place]:,} at {price:,.4f}, {moment(at, 0)}"
    return Mark(side.lower(), at, price, text)


def _table(trades: Table, mine: np.ndarray[tuple[int], np.dtype[np.int64]], symbol: str) -> Html:
    rows: list[list[Child]] = [
        [
            moment(int(trades["time_utc"][place].astype(np.int64)), 0),
            str(trades["side"][place]),
            f"{trades['qty'][place]:,}",
            f"{trades['price'][place]:,.4f}",
            f"{trades['fee'][place]:,.4f}",
            f"{trades['realised_profit'][place]:,.2f}",
            f"{trades['position_qty'][place]:,}",
        ]
        for place in mine[:ROWS_MAX].tolist()
    ]
    caption = f"Trades of {symbol}"
    if len(mine) > ROWS_MAX:
        caption += f": the first {ROWS_MAX} of {len(mine):,}; trades.parquet has all"
    header = ["time, UTC", "side", "quantity", "price", "fee", "realised", "position"]
    return table(caption, header, rows, texts=2)
