"""What the report says of each strategy's decisions and orders."""

from collections.abc import Sequence
from typing import Final

import msgspec

from app.model.trades_hash import hash_text
from app.runtime.metrics.completeness import unanswered
from app.runtime.metrics.snapshot import ProcessSnapshot
from app.runtime.metrics.tables import number

Table = tuple[str, Sequence[str], list[list[str]]]
"""Title, header, rows."""

SIGNALS: Final = ("BUY", "SELL", "FLAT", "HOLD")
OUTCOMES: Final = (
    "sent", "acked", "rejected", "repeated", "unanswered", "filled", "trades hash",
)  # fmt: skip


class StrategyOrders(msgspec.Struct, frozen=True):
    """One strategy's decisions and the outcome of its orders.

    ``placed``: by itself, and of these ``canceled`` by it, and ``left_open`` at the end.
    ``in_transit``: orders that had not met the market at the end, and were never sent.
    ``transit_refused``: orders that were not made, because too many were in transit.
    """

    label: str
    buy: int
    sell: int
    flat: int
    hold: int
    sent: int
    acked: int
    rejected: int
    repeated: int
    unanswered: int
    filled: int
    trades_hash: str
    placed: int = 0
    canceled: int = 0
    left_open: int = 0
    in_transit: int = 0
    transit_refused: int = 0


def orders_of(label: str, process: ProcessSnapshot) -> StrategyOrders:
    """What a strategy's counters say."""
    counters = process.counters
    return StrategyOrders(
        label=label,
        buy=counters["signals_buy"],
        sell=counters["signals_sell"],
        flat=counters["signals_flat"],
        hold=counters["signals_hold"],
        sent=counters["orders_sent"],
        acked=counters["orders_acked"],
        rejected=counters["orders_rejected"],
        repeated=counters["orders_duplicate"],
        unanswered=unanswered(process),
        filled=counters["run_filled"],
        trades_hash=hash_text(counters["trades_hash"]),
        placed=counters["placed"],
        canceled=counters["placed_canceled"],
        left_open=counters["placed_open"],
        in_transit=counters["in_transit"],
        transit_refused=counters["transit_refused"],
    )


def order_tables(strategies: list[StrategyOrders]) -> list[Table]:
    """Signals and orders of all strategies, and what those have placed that do so themselves."""
    orders = [
        [
            o.label,
            *map(number, (o.buy, o.sell, o.flat, o.hold, o.sent, o.acked)),
            *map(number, (o.rejected, o.repeated, o.unanswered, o.filled)),
            o.trades_hash,
        ]
        for o in strategies
    ]
    tables: list[Table] = [("Signals and orders", ("process", *SIGNALS, *OUTCOMES), orders)]
    placed = [
        [o.label, *map(number, (o.placed, o.canceled, o.left_open))] for o in strategies if o.placed
    ]
    if placed:
        header = ("process", "placed", "canceled by it", "open at the end, then canceled")
        tables.append(("Orders that the strategy placed itself", header, placed))
    late = [[o.label, number(o.in_transit)] for o in strategies if o.in_transit]
    if late:
        tables.append(("In transit at the end, never sent", ("process", "orders"), late))
    full = [[o.label, number(o.transit_refused)] for o in strategies if o.transit_refused]
    if full:
        tables.append(("Not made, too many in transit", ("process", "orders"), full))
    return tables
