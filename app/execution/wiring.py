"""Builds an order core from settings: checks, venue, core."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from app.execution.accounts import STACK_CLIENT_NO, Account
from app.execution.costs.borrow import Borrow
from app.execution.costs.fees import Fees
from app.execution.costs.slippage import Slippage
from app.execution.order_core import OrderCore
from app.execution.paper_exchange import EchoVenue, PaperExchange
from app.execution.pending_rows import OrderLookup, PendingRows
from app.execution.prices import PriceSource
from app.execution.risk import RiskGate
from app.execution.risk_config import RiskConfig
from app.execution.venue import Venue
from app.model.money import Scale
from app.model.requests import is_reserved

Values = Mapping[str, Any]
"""Settings by name."""


def _paper(kind: type[PaperExchange], values: Values, prices: PriceSource) -> Venue:
    return kind(
        prices,
        Slippage.of_settings(values),
        values["paper_fill_percent"],
        values["seed"],
        Fees(
            values["paper_fee_per_share"],
            values["paper_fee_bps"],
            values["paper_fee_min"],
            Scale(values["qty_decimals"]),
        ),
    )


VENUES: Final[dict[str, Callable[[Values, PriceSource], Venue]]] = {
    "paper": partial(_paper, PaperExchange),
    "echo": partial(_paper, EchoVenue),
}
"""Every venue, by the value of the setting ``VENUE``."""


def build_core(
    values: Values,
    prices: PriceSource,
    pending: PendingRows,
    lookup: OrderLookup,
    *,
    timeless: bool = False,
) -> OrderCore:
    """Checks, venue and core.  ``timeless``: without checks that depend on when an order arrives.

    A backtest is timeless: in a replay those checks only delay an order.
    """
    config = RiskConfig.from_values(values)
    gate = RiskGate(config.timeless() if timeless else config, prices, Account(STACK_CLIENT_NO, ""))
    venue = VENUES[values["venue"]](values, prices)
    own = partial(is_reserved, strategy_client=values["strategy_client"])
    borrow = Borrow(values["paper_borrow_bps_year"], own)
    return OrderCore(gate, venue, pending, lookup, values["order_clients_max"], own, borrow)
