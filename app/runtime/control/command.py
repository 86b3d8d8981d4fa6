"""``python -m app replay``: pause the market, step, change its pace, jump."""

import functools
import json
import sys
from typing import Any, Final

import click

from app.config.loading import EXIT_SETTINGS, settings_or_exit
from app.config.settings import SettingsError
from app.runtime.control.client import ControlClient
from app.runtime.readable import if_refused

SUBCOMMANDS: Final[dict[str, tuple[str, list[click.Parameter]]]] = {
    "status": ("Show what the market does.", []),
    "pause": ("Stand still; a jump ends where it is.", []),
    "resume": ("Play.", []),
    "step": (
        "Send one tick, or TICKS, and stand still.",
        [click.Argument(["ticks"], type=click.IntRange(min=1), default=1)],
    ),
    "speed": (
        "Play at PACE: 500/s, 60x or max.\n\n"
        "500/s: ticks per second; 60x: 60 times the speed of the data.",
        [click.Argument(["pace"])],
    ),
    "seek": (
        "Jump to WHERE: a tick, or a time.\n\nFor example 12000 or '2025-10-01 09:30:00'.",
        [click.Argument(["where"])],
    ),
}
AS_JSON: Final = click.Option(["--json", "as_json"], is_flag=True, help="print the answer as JSON")


def request_of(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The request of a subcommand."""
    members = dict(parameters)
    if "where" in members:
        members |= place_of(members.pop("where"))
    return {"op": name, **members}


def place_of(where: str) -> dict[str, Any]:
    """The members of a jump: a number is a tick, anything else a time."""
    digits = where.replace(",", "").replace("_", "")
    return {"tick": int(digits)} if digits.isdigit() and len(digits) < 18 else {"time": where}


def describe(market: dict[str, Any]) -> str:
    """The state in one line."""
    doing = {"play": f"plays at {market['pace']}", "paused": "stands still"}.get(
        market["mode"], f"jumps to tick {market['until']}"
    )
    if not market["started"]:
        doing = f"waits for its clients; then it {doing}"
    if market["finished"]:
        doing = "is over"
    elif market["mode"] != "play":
        doing += f", pace {market['pace']}" + ("" if market["paused"] else ", then plays")
    at = f", {market['event_time']}" if market["event_time"] else ""
    return f"the market {doing}; {market['tick']} ticks sent{at}"


def run(name: str, as_json: bool, **parameters: Any) -> int:
    """Exit code 0: done, 1: refused or nobody answers, 2: invalid settings."""
    settings = settings_or_exit("replay")
    try:
        answer = ControlClient(settings).request(request_of(name, parameters))
    except SettingsError as error:
        print(f"replay: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    except OSError as error:
        address = f"{settings.gateway_host}:{settings.control_port}"
        hint = if_refused(error, "CONTROL_PORT")
        print(f"replay: no answer from the gateway on {address}: {error}{hint}", file=sys.stderr)
        return 1
    if as_json:
        print(json.dumps(answer))
    elif answer["ok"]:
        print(describe(answer["market"]))
    else:
        print(f"replay: {answer['code']}: {answer['msg']}", file=sys.stderr)
    return 0 if answer["ok"] else 1


command = click.Group(
    "replay",
    commands=[
        click.Command(
            name, help=text, params=[*own, AS_JSON], callback=functools.partial(run, name)
        )
        for name, (text, own) in SUBCOMMANDS.items()
    ],
    help="""Pause the market, step, change its pace, jump.

    Where the stack's shared memory is, no token is needed.  Elsewhere that of an operator is
    (ORDER_TOKEN_FILE).
    """,
)
