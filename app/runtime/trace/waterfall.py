"""The trace of an order as text: a line for each stage, with a bar for the time it took."""

import time
from typing import Any, Final

from rich.console import RenderableType
from rich.text import Text

from app.model.timestamps import utc_text
from app.runtime.metrics.tables import EMPTY, micros, table
from app.runtime.trace.layout import STAGE_NAMES
from app.runtime.trace.reader import Attempt, OrderTimes

HEADER: Final = ("stage", "by", "at us", "took us", "")
BAR_WIDTH: Final = 40
BAR: Final = "█"
BY: Final = {
    "due": "gateway",
    "tick_sent": "gateway",
    "tick_received": "orderbook",
    "published": "orderbook",
    "decided": "strategy",
    "order_sent": "strategy",
    "order_received": "order_manager",
    "committed": "order_manager",
    "ack_sent": "order_manager",
    "ack_received": "strategy",
}
"""The process that does it."""
FROM_DECISION: Final = STAGE_NAMES[STAGE_NAMES.index("decided") :]
"""What a recovery goes through again."""
BY_ORDER_MANAGER: Final = tuple(name for name, by in BY.items() if by == "order_manager")


def utc_of(monotonic_ns: int) -> str:
    """A time of the trace as the log writes it."""
    return utc_text(monotonic_ns + time.time_ns() - time.monotonic_ns(), 6)


def waterfall(order: OrderTimes) -> list[RenderableType]:
    """A title, and a table for each attempt."""
    origin = f" on tick {order.tick}" if order.tick is not None else ""
    title = (
        f"order id={order.id} client={order.client}{origin}, first seen {utc_of(order.begin_ns)}"
    )
    blocks: list[RenderableType] = [Text(title)]
    for number, attempt in enumerate(order.attempts, 1):
        said = outcome(attempt, is_last=number == len(order.attempts))
        blocks.append(Text(f"attempt {number} of {len(order.attempts)}: {said}"))
        names = BY_ORDER_MANAGER
        if "order_sent" in attempt.stage_ns:
            names = FROM_DECISION if attempt.recovery else STAGE_NAMES
        blocks.append(table(HEADER, _rows(attempt, names, order.begin_ns)))
    return blocks


def is_answered(attempt: Attempt) -> bool:
    """Whether its answer has come; of an order by hand, whether it was sent."""
    return attempt.ok is not None or "order_sent" not in attempt.stage_ns


def outcome(attempt: Attempt, *, is_last: bool = False) -> str:
    """How an attempt ended, in words; ``is_last``: its answer may still come."""
    if "order_sent" not in attempt.stage_ns:
        said = "as the order manager saw it"
    elif attempt.ok is None:
        said = "no answer yet" if is_last else "no answer"
    else:
        said = "accepted" if attempt.ok else "refused"
    if attempt.repeated:
        said += ", the stored answer"
    return said + (", sent by a restarted strategy" if attempt.recovery else "")


def _rows(attempt: Attempt, names: tuple[str, ...], origin_ns: int) -> list[list[str | Text]]:
    times = attempt.stage_ns
    begin, end = min(times.values()), max(times.values())
    scale = BAR_WIDTH / max(end - begin, 1)
    rows: list[list[str | Text]] = []
    before = begin
    for name in names:
        label, at = name.replace("_", " ").replace("ack", "ACK"), times.get(name)
        if at is None:
            rows.append([label, BY[name], EMPTY, EMPTY, ""])
            continue
        left = min(int((before - begin) * scale), BAR_WIDTH - 1)
        length = max(round((at - before) * scale), 1)
        bar = " " * left + BAR * min(length, BAR_WIDTH - left)
        took = EMPTY if name == next(iter(times)) else micros(at - before)
        rows.append([label, BY[name], micros(at - origin_ns), took, Text(bar, no_wrap=True)])
        before = at
    return rows


def as_json(order: OrderTimes) -> dict[str, Any]:
    """The same for programs; times in ns since ``begin``."""
    begin = order.begin_ns
    return {
        "client": order.client,
        "id": order.id,
        "tick": order.tick,
        "begin": utc_of(begin),
        "attempts": [
            {
                "ok": attempt.ok,
                "repeated": attempt.repeated,
                "recovery": attempt.recovery,
                "at_ns": {name: at - begin for name, at in attempt.stage_ns.items()},
            }
            for attempt in order.attempts
        ],
    }
