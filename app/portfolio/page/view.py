"""The state of the portfolio as JSON: what the page shows, and programs read.

Quantities and amounts are exact decimal text, so nothing is lost on the way.
"""

import time
from itertools import islice
from typing import Any, Final

from app.model.money import money_text
from app.model.position import COST_NAMES
from app.portfolio.books import Books, Line, Total
from app.portfolio.fills import ALL
from app.portfolio.intake.following import Following, Progress
from app.portfolio.limits import values_of
from app.portfolio.service import Portfolio
from app.portfolio.state import ShardState

SHOWN_MAX: Final = 20
"""Breaches, controls and older runs, the latest."""


def line_view(line: Line) -> dict[str, str]:
    """Of one symbol."""
    return {
        "qty": ALL.qty_text(line.qty),
        "mark": money_text(line.mark),
        "value": ALL.amount_text(line.value),
        **profit_view(line),
    }


def profit_view(line: Line | Total) -> dict[str, str]:
    """Profits and costs, of one symbol or of many."""
    costs = line.costs._asdict()
    return {
        "pnl": ALL.amount_text(line.pnl),
        "day_pnl": ALL.amount_text(line.day_pnl),
        **{name: ALL.amount_text(costs[name]) for name in COST_NAMES if name in costs},
        "turnover": ALL.amount_text(line.costs.turnover),
    }


def state_view(portfolio: Portfolio, following: Following) -> dict[str, Any]:
    """Everything."""
    books, state = portfolio.books, portfolio.state
    lines = books.lines()
    shards = [_shard_view(portfolio, shard, following) for shard in sorted(portfolio.shards)]
    return {
        "at_ms": round(time.time() * 1000),
        "day": books.day,
        "judges": portfolio.judges,
        "bus": {
            "connected": following.link is not None,
            "server": following.server,
            "connections": following.connections,
            "problem": following.problem,
        },
        "shards": shards,
        "symbols": _symbols_view(portfolio, lines),
        "older_runs": _older_runs_view(portfolio.books),
        "total": profit_view(books.total()) | {"exposure": ALL.amount_text(books.total().exposure)},
        "limits": _limits_view(portfolio),
        "breaches": [
            {
                "number": breach.number,
                "reason": breach.reason,
                "mode": breach.mode,
                "began_ms": breach.began_ns // 1_000_000,
                "ended_ms": None if ended_ns is None else ended_ns // 1_000_000,
            }
            for breach, ended_ns in state.last_breaches(SHOWN_MAX)
        ],
        "controls": [
            {
                "id": control.id,
                "shard": control.shard,
                "mode": control.mode,
                "at_ms": control.at_ns // 1_000_000,
                "arrived_seq": control.arrived_seq,
            }
            for control in state.last_controls(SHOWN_MAX)
        ],
        "unsent": portfolio.unsent,
    }


def _shard_view(portfolio: Portfolio, shard: str, following: Following) -> dict[str, Any]:
    state: ShardState = portfolio.shards[shard]
    progress = following.progress.get(shard) or Progress()
    total = portfolio.books.total(shard)
    lag_s, silent_s = following.lag_s(shard), following.heartbeats.age_s(shard)
    latest = portfolio.books.current.get(shard)
    return {
        "shard": shard,
        "reading": progress.reading,
        "problem": progress.problem,
        "pending": progress.pending,
        "lag_s": None if lag_s is None else round(lag_s, 3),
        "heartbeat_s": None if silent_s is None else round(silent_s, 3),
        **{name: getattr(state, name) for name in ("seq", "fills", "repeats", "refused", "lost")},
        "last_fill_ms": state.last_fill_ns // 1_000_000 or None,
        "last_message_ms": round(progress.last_message_s * 1000)
        if progress.last_message_s > 0
        else None,
        "run": latest.run if latest else None,
        "symbols": total.held,
        "exposure": ALL.amount_text(total.exposure),
        **profit_view(total),
    }


def _symbols_view(portfolio: Portfolio, lines: dict[str, Line]) -> list[dict[str, Any]]:
    held: dict[str, dict[str, str]] = {}
    for shard in portfolio.books.shards():
        for symbol, holding in portfolio.books.holdings_of(shard).items():
            held.setdefault(symbol, {})[shard] = ALL.qty_text(holding.now.qty)
    return [
        {"symbol": symbol, **line_view(line), "shards": held[symbol]}
        for symbol, line in lines.items()
    ]


def _older_runs_view(books: Books) -> list[dict[str, Any]]:
    """What shards had when a later run followed, valued at each run's own last fills."""
    return [
        {
            "shard": key.shard,
            "run": key.run,
            "store": key.store,
            "fills": len(books.runs[key].numbers),
            **profit_view(books.run_total(key)),
        }
        for key in islice(books.older_runs(), SHOWN_MAX)
    ]


def _limits_view(portfolio: Portfolio) -> list[dict[str, Any]]:
    values = values_of(portfolio.books.total())
    return [
        {
            "limit": limit.name,
            "setting": limit.setting,
            "mode": limit.mode,
            "value": ALL.amount_text(values[limit.name]),
            "most": ALL.amount_text(limit.most) if limit.most else None,
            "used": values[limit.name] / limit.most if limit.most else None,
            "passed": limit.name in portfolio.watch.active,
        }
        for limit in portfolio.watch.limits
    ]
