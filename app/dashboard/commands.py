"""Commands of the page: transport of the market, and faults on purpose.

They are checked here, so that a page learns at once what is wrong, and passed on to who does them.
"""

import asyncio
import re
from typing import Any, Final

import msgspec

from app.config import Settings
from app.runtime.log import get_logger
from app.runtime.metrics.process_metrics import ProcessMetrics

log = get_logger()

TRANSPORT: Final = frozenset({"pause", "resume", "step", "speed", "seek"})
FAULTS: Final = frozenset({"kill", "freeze", "cut"})
SERVICES: Final = frozenset({"gateway", "orderbook", "strategy", "order_manager"})
FREEZE_S_MAX: Final = 60.0
STEPS_MAX: Final = 1_000_000
SPEED: Final = re.compile(r"max|[0-9]{1,9}(\.[0-9]{1,9})?(x|/s)")
WHERE_BYTES_MAX: Final = 40


class CommandRefused(Exception):
    """The command is not passed on, or whoever does it has refused; the message says why."""


class TransportCommand(msgspec.Struct, forbid_unknown_fields=True):
    """``n``: ticks of a step; ``speed``: 60x, 1000/s or max; ``to``: a tick or a time."""

    op: str
    n: int = 1
    speed: str = ""
    to: str = ""


class FaultCommand(msgspec.Struct, forbid_unknown_fields=True):
    """A fault of one service."""

    op: str
    service: str
    seconds: float = 3.0


class Commands:
    """Checks commands and passes them on; each takes a thread while it waits for its answer."""

    def __init__(self, settings: Settings, metrics: ProcessMetrics) -> None:
        self._settings, self._metrics = settings, metrics

    def offers(self) -> dict[str, Any]:
        """What the page may offer, and why not what it may not."""
        return {
            "transport": "this build has no transport control",
            "chaos": False,
        }

    def transport_state(self, counters: dict[str, int]) -> dict[str, Any] | None:
        """Paused, speed and position as the gateway's counters show them; None if they do not."""
        return None

    async def transport(self, body: bytes) -> dict[str, Any]:
        """Pass on a command of the transport.

        Raises:
            CommandRefused: why not.
        """
        command = _decode(body, TransportCommand)
        request = transport_request(command)
        return await self._pass_on("transport", self._transport, request)

    async def fault(self, body: bytes) -> dict[str, Any]:
        """Pass on a fault.

        Raises:
            CommandRefused: why not.
        """
        command = _decode(body, FaultCommand)
        check_fault(command)
        return await self._pass_on("fault", self._fault, command)

    async def _pass_on(self, kind: str, do: Any, command: Any) -> dict[str, Any]:
        self._metrics.add("commands")
        try:
            answer: dict[str, Any] = await asyncio.to_thread(do, command)
        except (OSError, ValueError, CommandRefused) as error:
            self._metrics.add("commands_failed")
            raise CommandRefused(" ".join(str(error).split())) from error
        log.info("page_command", kind=kind, command=str(command))
        return answer

    def _transport(self, request: dict[str, Any]) -> dict[str, Any]:
        raise CommandRefused("this build has no transport control")

    def _fault(self, command: FaultCommand) -> dict[str, Any]:
        raise CommandRefused("CHAOS=true is needed for faults on purpose")


def _decode(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise CommandRefused(f"not a command: {error}") from None


def transport_request(command: TransportCommand) -> dict[str, Any]:
    """The request of the control port for a command.

    Raises:
        CommandRefused: what is wrong with it.
    """
    if command.op not in TRANSPORT:
        raise CommandRefused(f"op={command.op[:40]}: one of {', '.join(sorted(TRANSPORT))}")
    request: dict[str, Any] = {"op": command.op}
    if command.op == "step":
        if not 1 <= command.n <= STEPS_MAX:
            raise CommandRefused(f"n={command.n}: 1 to {STEPS_MAX} ticks")
        request["n"] = command.n
    elif command.op == "speed":
        if not SPEED.fullmatch(command.speed):
            raise CommandRefused(f"speed={command.speed[:40]}: such as 60x, 1000/s or max")
        request["speed"] = command.speed
    elif command.op == "seek":
        if not command.to.strip() or len(command.to.encode()) > WHERE_BYTES_MAX:
            raise CommandRefused("to: a tick, such as 5000, or a time, such as 2025-10-01 10:00:00")
        request["to"] = command.to.strip()
    return request


def check_fault(command: FaultCommand) -> None:
    """Check a fault.

    Raises:
        CommandRefused: what is wrong with it.
    """
    if command.op not in FAULTS:
        raise CommandRefused(f"op={command.op[:40]}: one of {', '.join(sorted(FAULTS))}")
    if command.service not in SERVICES:
        names = ", ".join(sorted(SERVICES))
        raise CommandRefused(f"service={command.service[:40]}: one of {names}")
    if not 0 < command.seconds <= FREEZE_S_MAX:
        raise CommandRefused(f"seconds={command.seconds}: above 0, at most {FREEZE_S_MAX:g}")
