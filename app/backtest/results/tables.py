"""The tables of a run as NumPy columns: trades, orders, equity, days, positions.

Names of columns end with their unit; what has none is in the currency of the prices, or a number.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from app.backtest.performance.daily import DAY_NS
from app.backtest.performance.measures import simple_returns
from app.backtest.result import Result
from app.backtest.results.recorder import Recorder
from app.config.settings import Settings
from app.model.money import UNITS, Scale
from app.model.order_table import ORDER_COLUMNS, order_row
from app.model.orders import tick_of_order_id

Table = dict[str, npt.NDArray[Any]]
"""Column -> values, all of one length.  Times are ``datetime64[ns]`` in UTC, text is ``object``."""

Floats = npt.NDArray[np.float64]
BPS: Final = 10_000


def trades(result: Result, recorder: Recorder, settings: Settings) -> Table:
    """One row per execution.

    ``market_price`` is the symbol's price at the tick; ``slippage``, of which ``half_spread`` is
    half the spread, and ``impact`` are what the execution was worse than that, for all of its
    quantity; ``latency`` is what the market was worse than at the decision; ``borrow`` is what a
    short has cost since the execution before; ``realised_profit`` is that of the quantity closed,
    at average cost and net of fee and borrow; ``position_qty`` is held after it.
    """
    fills = recorder.fills
    symbol = np.array([fill.symbol_index for fill in fills], np.int64)
    qty, price, fee, slippage, impact, borrow = (
        np.array([fill[place] for fill in fills], np.float64) for place in range(2, 8)
    )
    market = recorder.fill_market
    half_spread = np.abs(qty) * market * settings.paper_half_spread_bps / BPS
    return {
        "tick": np.array([fill.seq for fill in fills], np.int64),
        "time_utc": _times(recorder.fill_ns),
        "symbol": _texts(result.symbols)[symbol],
        "side": _texts(["SELL", "BUY"])[(qty > 0).astype(np.int64)],
        "qty": _quantities(np.abs(qty), result.scale),
        "price": price,
        "notional": np.abs(qty) * price,
        "fee": fee,
        "market_price": market,
        "slippage": slippage,
        # A maker pays none, and what a limit saves is spread as well.
        "half_spread": np.minimum(half_spread, slippage),
        "impact": impact,
        "latency": np.array([fill.latency for fill in fills], np.float64),
        "borrow": borrow,
        "realised_profit": realised(symbol, qty, price, fee + borrow, recorder.fill_position),
        "position_qty": _quantities(recorder.fill_position, result.scale),
    }


def realised(
    symbol: npt.NDArray[np.int64], qty: Floats, price: Floats, paid: Floats, position: Floats
) -> Floats:
    """Profit of what each execution closes, at average cost, less what is ``paid`` besides.

    ``position``: what is held after it.
    """
    held: dict[int, float] = defaultdict(float)
    cost: dict[int, float] = defaultdict(float)
    found = np.empty(len(qty))
    columns = (symbol, qty, price, paid, position)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for row, (name, signed, at, charged, after) in enumerate(rows):
        have, held[name] = held[name], after
        profit = 0.0
        if have * signed >= 0:
            cost[name] += signed * at
        else:
            closed = min(abs(signed), abs(have)) * (1 if signed > 0 else -1)
            released = -cost[name] * closed / have
            profit = -closed * at - released
            cost[name] += (signed - closed) * at - released
        if not held[name]:
            cost[name] = 0.0
        found[row] = profit - charged
    return found


def equity(recorder: Recorder, capital: float) -> Table:
    """One row per tick, or per n-th tick of a long run; the last tick of each day always has one.

    ``profit`` is since the start, holdings at their latest price; ``equity`` is that on the
    capital; ``benchmark_equity`` is buy and hold of equal parts of each symbol.
    """
    series = recorder.series
    profit = series["cash"] + series["holdings"] - series["borrow"]
    total = capital + profit
    peak = np.maximum.accumulate(np.maximum(total, capital)) if len(total) else total
    return {
        "tick": recorder.seq,
        "time_utc": _times(recorder.event_ns),
        "profit": profit,
        "equity": total,
        "benchmark_equity": capital * series["benchmark"],
        "drawdown_pct": 100 * (total / peak - 1),
        "exposure_net": series["holdings"],
        "exposure_gross": np.maximum(series["exposure_gross"], 0.0),
        "turnover": series["turnover"],
        "fees": series["fees"],
        "borrow": series["borrow"],
    }


def daily(of: Table, fill_ns: npt.NDArray[np.int64], capital: float) -> Table:
    """One row per day (UTC) with ticks, from the equity table ``of``: what holds at its last tick.

    ``turnover``, ``fees``, ``borrow`` and ``trades`` are of the day; the returns are nan
    from the day on which all of the capital is lost.
    """
    day = of["time_utc"].astype(np.int64) // DAY_NS
    last = np.flatnonzero(np.diff(day, append=np.iinfo(np.int64).max))
    days = day[last]
    count = Counter((fill_ns // DAY_NS).tolist())
    table: Table = {
        "date": days.astype("datetime64[D]"),
        "time_utc": of["time_utc"][last],
        "profit": of["profit"][last],
        "equity": of["equity"][last],
        "benchmark_equity": of["benchmark_equity"][last],
        "return_pct": _returns_pct(of["equity"][last], capital),
        "benchmark_return_pct": _returns_pct(of["benchmark_equity"][last], capital),
        "trades": np.array([count[each] for each in days.tolist()], np.int64),
    }
    for name in ("turnover", "fees", "borrow"):
        table[name] = np.diff(of[name][last], prepend=0.0)
    table["exposure_net"] = of["exposure_net"][last]
    table["exposure_gross"] = of["exposure_gross"][last]
    return table


def _returns_pct(value: Floats, capital: float) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = 100 * simple_returns(np.concatenate(([capital], value)))
    lost = np.flatnonzero(value <= 0)
    if len(lost):
        found[int(lost[0]) :] = np.nan
    return found


def positions(result: Result, traded: Table) -> Table:
    """One row per symbol with orders: what is held at the end, and what it made."""
    orders = Counter(order.symbol for order in result.orders)
    filled = Counter(order.symbol for order in result.orders if order.filled_qty)
    names = sorted(orders.keys() | result.positions.keys())
    held = [result.positions.get(name) for name in names]
    last = np.array([result.last_price[name] for name in names])
    unit = UNITS * result.scale.factor
    units = [0 if each is None else each.qty for each in held]
    qty = _quantities([result.scale.qty(each) for each in units], result.scale)
    cost = np.array([0 if each is None else each.cost for each in held], np.float64) / unit
    done = np.array([0 if each is None else each.realized for each in held], np.float64) / unit
    notional: dict[str, float] = defaultdict(float)
    for name, value in zip(traded["symbol"], traded["notional"].tolist(), strict=True):
        notional[name] += value
    owed = np.array([result.accrued.get(name, 0) for name in names], np.float64) / unit
    charged = np.array([0 if each is None else each.borrow for each in held], np.float64) / unit
    averages = [None if each is None else each.avg_cost for each in held]
    return {
        "symbol": _texts(names),
        "qty": qty,
        "avg_price": np.array([np.nan if a is None else a / UNITS for a in averages], np.float64),
        "last_price": last,
        "realised_profit": done,
        "open_profit": qty * last - cost - owed,
        "profit": done + qty * last - cost - owed,
        "fees": np.array([0 if each is None else each.fees for each in held], np.float64) / unit,
        "borrow": charged + owed,
        "orders": np.array([orders[name] for name in names], np.int64),
        "filled_orders": np.array([filled[name] for name in names], np.int64),
        "turnover": np.array([notional[name] for name in names], np.float64),
    }


_KINDS: Final[dict[str, Callable[[list[Any]], npt.NDArray[Any]]]] = {
    "int": lambda values: np.array(values, np.int64),
    "money": lambda values: np.array(
        [np.nan if value is None else value / UNITS for value in values], np.float64
    ),
    "text": lambda values: _texts(values),
}


def orders(result: Result) -> Table:
    """All orders, also those refused, in the columns of the store's export, and ``tick``.

    Without ``run_id``, which a backtest has not; money is rounded to what a float holds.
    """
    rows = [
        order_row(
            order.order_no, "", result.client, order.id, order.at_ns, order.ts, order.side,
            order.symbol, order.qty, order.price, order.type, order.tif, order.status,
            order.filled_qty, order.filled_notional, order.code, order.msg,
        )
        for order in result.orders
    ]  # fmt: skip
    table: Table = {}
    for place, (name, kind) in enumerate(ORDER_COLUMNS.items()):
        if name == "run_id":
            continue
        values = [row[place] for row in rows]
        if name == "at_ns":
            table["time_utc"] = _times(np.array(values, np.int64))
        elif kind == "qty":
            table[name] = _quantities([*map(result.scale.qty, values)], result.scale)
        else:
            table[name] = _KINDS[kind](values)
    table["tick"] = np.array([tick_of_order_id(order.id) for order in result.orders], np.int64)
    return table


def _times(event_ns: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    return event_ns.astype("datetime64[ns]")


def _texts(values: list[Any]) -> npt.NDArray[Any]:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def _quantities(values: Floats | list[int | float], scale: Scale) -> npt.NDArray[Any]:
    """Integers if quantities are whole, else floats; whatever the values happen to be."""
    return np.asarray(values).astype(np.float64 if scale.decimals else np.int64)
