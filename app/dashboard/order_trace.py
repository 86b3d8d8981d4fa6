"""The trace of one order for the page: each attempt's stages, from its first on."""

import asyncio
from typing import Any

from app.config.settings import Settings
from app.runtime.trace.layout import STAGES
from app.runtime.trace.reader import Attempt, trace_of
from app.shared_memory_utils.segment import SegmentError


class Traces:
    """Reads the ring of orders, in a thread, and one at a time: it is megabytes large."""

    def __init__(self, settings: Settings) -> None:
        self._segment = settings.shm_trace
        self._reading = asyncio.Lock()

    async def of_order(self, client: str, order_id: int) -> dict[str, Any]:
        """The answer for the page."""
        async with self._reading:
            return await asyncio.to_thread(self._read, client, order_id)

    def _read(self, client: str, order_id: int) -> dict[str, Any]:
        try:
            found = trace_of(self._segment, order_id, client)
        except SegmentError as error:
            return {"ok": False, "msg": f"No trace here: {error}"}
        if not found:
            return {
                "ok": False,
                "msg": f"No trace of order {order_id} of {client}: the ring keeps the latest "
                "orders of the strategies (TRACE_ORDERS), and none of other clients before "
                "they reach the order manager.",
            }
        order = found[0]
        begin_ns = order.begin_ns
        return {
            "ok": True,
            "client": order.client,
            "id": order.id,
            "tick": order.tick,
            "attempts": [_attempt(each, begin_ns) for each in order.attempts],
        }


def _attempt(attempt: Attempt, begin_ns: int) -> dict[str, Any]:
    return {
        "answer": attempt.ok,
        "repeated": attempt.repeated,
        "recovery": attempt.recovery,
        "stages": [
            {"name": name, "meaning": STAGES[name], "at_us": (at_ns - begin_ns) / 1000}
            for name, at_ns in attempt.stage_ns.items()
        ],
    }
