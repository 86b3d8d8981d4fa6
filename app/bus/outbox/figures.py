"""The publisher's status as metrics, each with the name of its shard."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from app.bus.figures import Figure, one

PREFIX: Final = "trading_outbox"

FIGURES: Final = {
    "connected": ("connected", "whether the stream has been had, or given, everything"),
    "restricted": ("restricted", "whether trading is restricted because the bus is lost"),
    "connections": ("connections_total", "connections made"),
    "sent": ("sent_total", "messages sent, whether they are taken or not"),
    "published": ("acknowledged_total", "messages that the stream has taken"),
    "resyncs": ("resyncs_total", "messages refused because another one is in their place"),
    "refused": ("refused_total", "messages refused for another reason: full, or no majority"),
    "controls": ("controls_total", "controls taken"),
    "orders": ("orders", "number of the last order in the stream"),
    "fills": ("fills", "number of the last fill in the stream"),
    "changes": ("changes", "number of the last change of an order in the stream"),
    "lag_rows": ("behind_rows", "rows of the store that the stream lacks"),
    "lag_s": ("behind_seconds", "age of the oldest order among them"),
}
"""Member of the status -> its metric, and what it is."""


def status_figures(status: Mapping[str, Any]) -> Iterator[Figure]:
    """Those that the status has; before the first one, only that the process is there."""
    shard = str(status.get("shard", ""))
    yield one(f"{PREFIX}_up", "1: the publisher runs", 1, shard=shard)
    for member, (name, text) in FIGURES.items():
        value = status.get(member)
        if isinstance(value, int | float):
            yield one(f"{PREFIX}_{name}", text, value, shard=shard)
