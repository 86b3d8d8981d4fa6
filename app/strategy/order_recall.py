"""What a client's last orders were, asked of the order manager.

Where a run cannot be repeated tick by tick (live, or with ticks lost), a restarted strategy takes
its positions from here and sends nothing for the time it was away: those prices are gone.
"""

from typing import Any

import msgspec

from app.model.wire.frames import json_frame
from app.runtime.net.order_client import OrderClient

PAGE_ORDERS = 150
NOT_TAKEN = frozenset({"Denied", "Rejected"})


def last_order_id(client: OrderClient, name: str) -> int | None:
    """The id of the latest order of ``name``, or None.

    Raises:
        StopRequested: a stop was requested meanwhile.
    """
    page = _page(client, name, None, 1)
    return int(page[0]["id"]) if page else None


def last_sides(client: OrderClient, name: str, symbols: int) -> dict[str, int]:
    """Symbol -> +1 or -1, the side of the latest order of ``name`` in it that was accepted.

    ``symbols``: how many there are; the search ends once each is found.

    Raises:
        StopRequested: a stop was requested meanwhile.
    """
    found: dict[str, int] = {}
    before: int | None = None
    while len(found) < symbols:
        orders = _page(client, name, before, PAGE_ORDERS)
        if not orders:
            break
        for order in orders:
            if order["status"] not in NOT_TAKEN:
                found.setdefault(order["symbol"], 1 if order["side"] == "BUY" else -1)
            before = order["order_no"]
    return found


def _page(client: OrderClient, name: str, before: int | None, limit: int) -> list[dict[str, Any]]:
    """Orders of ``name``, the newest first."""
    request: dict[str, Any] = {"op": "orders", "client": name, "open": False, "limit": limit}
    if before is not None:
        request["before"] = before
    frame = json_frame(msgspec.json.encode(request))
    orders: list[dict[str, Any]] = client.ask(frame).get("orders", [])
    return orders
