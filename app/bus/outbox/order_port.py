"""Asks the order manager for a trading mode, as an operator on its order port does."""

from typing import Any, Final

import msgspec

from app.config.settings import Settings
from app.model.wire.frames import json_frame
from app.runtime.net.access import connect_orders
from app.runtime.net.receive import read_until

TIMEOUT_S: Final = 3.0
ACTIVE, REDUCE, HALTED = "active", "reduce", "halted"
OPS: Final = {ACTIVE: "resume", REDUCE: "reduce", HALTED: "halt"}
"""Trading mode of the whole stack -> the request that sets it."""
SEVERITY: Final = (ACTIVE, REDUCE, HALTED, "killed")
REASON_MAX: Final = 200
"""Characters that the order manager takes."""


class OrderPortError(Exception):
    """The order manager did not do it; a later attempt may succeed.  One line."""


def say_alive(settings: Settings) -> str:
    """Say that the bus is there; returns what ON_BUS_LOSS is at the order manager.

    Raises:
        OrderPortError: no answer, or a refusal.
    """
    return str(_ask(settings, {"op": "bus_alive"})["on_bus_loss"])


def stricter_than(mode: str) -> str:
    """The next stricter mode."""
    return SEVERITY[SEVERITY.index(mode) + 1]


def set_stack_mode(settings: Settings, mode: str, reason: str, unless: str) -> str:
    """Put the whole stack into a mode, unless it is in ``unless`` or a stricter one.

    The order manager looks and sets in one step, so nothing that trips in between is undone, and
    stores mode and reason.  Returns the mode that it keeps instead, empty if it has set ours.

    Raises:
        OrderPortError: no answer, or a refusal.
    """
    answer = _ask(settings, {"op": OPS[mode], "reason": reason[:REASON_MAX], "unless": unless})
    return str(answer["mode"]) if answer.get("kept") else ""


def _ask(settings: Settings, request: dict[str, Any]) -> dict[str, Any]:
    try:
        with connect_orders(settings, TIMEOUT_S) as connection:
            connection.sendall(json_frame(msgspec.json.encode(request)))
            answer: dict[str, Any] = msgspec.json.decode(read_until(connection)[:-1])
    except (OSError, msgspec.DecodeError) as error:
        host, port = settings.order_manager_host, settings.order_port
        raise OrderPortError(f"order manager on {host}:{port}: {error}") from None
    if not answer.get("ok"):
        raise OrderPortError(
            f"the order manager refuses {request['op']}: {answer.get('msg')}; the token that this "
            "process has (ORDER_TOKEN_FILE, or RUN_DIR) must be the stack's or an operator's"
        )
    return answer
