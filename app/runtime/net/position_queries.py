"""What the order manager says a client holds."""

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from app.config.settings import Settings
from app.model.money import WHOLE, Scale, to_units
from app.model.position import Costs
from app.runtime.net.order_client import ask_once

RETRY_S: Final = 0.2

Ask = Callable[[dict[str, Any]], dict[str, Any]]
"""Sends a request to the order manager; returns its answer."""


class Profit(msgspec.Struct, frozen=True):
    """One client's profit, net of all ``costs``, its open positions at the price book's prices.

    ``costs``: by kind, as :meth:`RunCosts.figures` names them.  ``problem``: why it is unknown,
    else empty.
    """

    client: str
    realized: float = 0.0
    unrealized: float = 0.0
    problem: str = ""
    costs: dict[str, float | None] = {}


def costs_of(rows: list[dict[str, Any]], latency: int) -> dict[str, float | None]:
    """What trading has cost a client, the borrow with what is accrued; ``latency`` in units."""
    found = Costs()
    for row in rows:
        found = found.plus(Costs(*(to_units(row[name]) for name in Costs._fields)))
        found = found.plus(Costs(borrow=to_units(row["accrued"])))
    return found.of_run(latency).figures()


def position_rows(ask: Ask, client: str) -> Iterator[dict[str, Any]]:
    """The positions of ``client``, as in the answer to the request ``positions``."""
    after = ""
    while True:
        answer = ask({"op": "positions", "client": client, "after": after})
        if not answer["ok"]:
            raise ValueError(answer.get("msg"))
        yield from answer["positions"]
        if not answer["more"]:
            return
        after = answer["after"]


def held(ask: Ask, client: str, scale: Scale = WHOLE) -> dict[str, int]:
    """Symbol -> units, negative when short: what ``client`` holds once its resting orders fill."""

    def units(number: Any) -> int:
        found = scale.qty_units(number)
        if found is None:
            raise ValueError(f"quantity {number} of over {scale.decimals} decimals")
        return found

    return {
        row["symbol"]: units(row["qty"]) + units(row["open_buy"]) - units(row["open_sell"])
        for row in position_rows(ask, client)
    }


def profit_of(settings: Settings, client: str, patience_s: float, latency: int = 0) -> Profit:
    """The profit of ``client`` now; asks again for ``patience_s`` while there is no answer.

    ``latency``: what it has cost, in units of 1e-9, which the order manager does not know.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            rows = list(position_rows(lambda request: ask_once(request, settings), client))
        except (OSError, ValueError) as error:
            if time.monotonic() > deadline:
                return Profit(client, problem=f"no positions from the order manager: {error}")
            time.sleep(RETRY_S)
        else:
            return Profit(
                client,
                sum(row["realised"] for row in rows),
                sum(row["unrealised"] for row in rows),
                costs=costs_of(rows, latency),
            )
