"""Commands of the page: transport of the market, and faults on purpose.

They are checked here, so that a page learns at once what is wrong, and passed on to who does them.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec

from app.config.settings import Settings, SettingsError
from app.model.wire.control_json import (
    BadRequest,
    Pause,
    Request,
    Resume,
    Seek,
    Speed,
    Step,
    parse_request,
)
from app.runtime.chaos import requests as faults
from app.runtime.chaos.sender import NotDelivered, send
from app.runtime.control.client import ControlClient
from app.runtime.control.pace import KINDS, pace_text
from app.runtime.log import get_logger
from app.runtime.metrics.process_metrics import ProcessMetrics

log = get_logger()

TIMEOUT_S: Final = 3.0
WAITING_MAX: Final = 8
"""Commands under way; a gateway that is frozen answers none of them."""


class CommandRefused(Exception):
    """The command is not passed on, or whoever does it has refused; the message says why."""


class FaultCommand(msgspec.Struct, forbid_unknown_fields=True):
    """A fault of one process; ``seconds``: None for the usual time."""

    op: str
    service: str
    seconds: float | None = None


class Commands:
    """Checks commands and passes them on; each takes a thread while it waits for its answer."""

    def __init__(self, settings: Settings, metrics: ProcessMetrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._waiting = 0

    def offers(self) -> dict[str, Any]:
        """What the page may offer."""
        return {"chaos": self._settings.chaos}

    async def transport(self, body: bytes) -> dict[str, Any]:
        """Pass on a command of the transport.

        Raises:
            CommandRefused: why not.
        """
        try:
            request = parse_request(body)
        except BadRequest as error:
            raise CommandRefused(f"not a command: {error}") from None
        if not isinstance(request, Pause | Resume | Step | Speed | Seek):
            raise CommandRefused("not a command: pause, resume, step, speed or seek")
        return await self._pass_on(self._tell_gateway, request)

    async def fault(self, body: bytes) -> dict[str, Any]:
        """Pass on a fault.

        Raises:
            CommandRefused: why not.
        """
        try:
            command = msgspec.json.decode(body, type=FaultCommand)
            asked = faults.make(command.op, command.seconds)
        except (msgspec.MsgspecError, faults.BadRequest) as error:
            raise CommandRefused(f"not a fault: {error}") from None
        if not self._settings.chaos:
            raise CommandRefused("faults on purpose need a stack with CHAOS=true (make demo)")

        def tell(_request: Any) -> dict[str, Any]:
            send(self._settings, command.service, asked)
            return {}

        return await self._pass_on(tell, command)

    async def _pass_on(self, do: Callable[[Any], dict[str, Any]], command: Any) -> dict[str, Any]:
        if self._waiting >= WAITING_MAX:
            raise CommandRefused(f"{WAITING_MAX} commands wait for an answer; try again later")
        self._metrics.add("commands")
        self._waiting += 1
        try:
            answer = await asyncio.to_thread(do, command)
        except (OSError, ValueError, SettingsError, NotDelivered, CommandRefused) as error:
            self._metrics.add("commands_failed")
            raise CommandRefused(" ".join(str(error).split())) from error
        finally:
            self._waiting -= 1
        log.info("page_command", command=msgspec.json.encode(command).decode())
        return answer

    def _tell_gateway(self, request: Request) -> dict[str, Any]:
        client = ControlClient(self._settings, TIMEOUT_S)
        answer = client.request(msgspec.to_builtins(request))
        if not answer.get("ok"):
            raise CommandRefused(str(answer.get("msg")))
        return {"market": answer["market"]}


def market_of(counters: dict[str, int]) -> dict[str, Any] | None:
    """What the market does, as the gateway's counters show it; None where they do not."""
    kind = counters.get("pace_kind", 0)
    if kind not in KINDS:
        return None
    return {
        "paused": bool(counters["paused"]),
        "until": counters["hurries_to"] or None,
        "pace": pace_text(kind, counters["pace_millionths"]),
    }
