"""What a client's last orders were, asked of the order manager.

Where a run cannot be repeated tick by tick (live, or with ticks lost), a restarted strategy takes
its positions from here and sends nothing for the time it was away: those prices are gone.
"""

from typing import Any

import msgspec

from app import wire
from app.order_client import OrderClient

PAGE_ORDERS = 150
NOT_TAKEN = frozenset({"Denied", "Rejected"})


def last_sides(client: OrderClient, name: str, symbols: int) -> dict[str, int]:
    """Symbol -> +1 or -1, the side of the latest order of ``name`` in it that was accepted.

    ``symbols``: how many there are; the search ends once each is found.

    Raises:
        Unanswered: a stop was requested meanwhile.
    """
    found: dict[str, int] = {}
    before: int | None = None
    while len(found) < symbols:
        request: dict[str, Any] = {
            "op": "orders",
            "client": name,
            "open": False,
            "limit": PAGE_ORDERS,
        }
        if before is not None:
            request["before"] = before
        frame = msgspec.json.encode(request).replace(b"*", b"\\u002a") + wire.DELIMITER
        orders = client.ask(frame).get("orders")
        if not orders:
            break
        for order in orders:
            if order["status"] not in NOT_TAKEN:
                found.setdefault(order["symbol"], 1 if order["side"] == "BUY" else -1)
            before = order["order_no"]
    return found
