"""``python -m app chaos``: ask a process of a running stack to fail."""

import sys

import click

from app.config.loading import settings_or_exit
from app.runtime.chaos.places import SERVICES, is_process
from app.runtime.chaos.requests import FAULTS, SECONDS_MAX, BadRequest, Freeze, Kill, make
from app.runtime.chaos.sender import NotDelivered, send


@click.command()
@click.argument("fault", type=click.Choice(FAULTS))
@click.argument("service")
@click.argument("seconds", type=float, required=False)
def command(fault: str, service: str, seconds: float | None) -> int:
    """Exit code 0: asked, 1: nobody listens, 2: wrong usage or settings.

    SERVICE: gateway, orderbook, strategy, order_manager, or strategy-2 and so on.  The stack must
    run with CHAOS=true; in containers, use docker compose exec strategy python3 -m app chaos.

    kill: SIGKILL; the process is started again.

    freeze: it stands still for SECONDS, by default 3.

    cut: its TCP connections break, and new ones for SECONDS, by default 1.
    """
    if not is_process(service):
        known = ", ".join(SERVICES)
        raise click.UsageError(
            f"SERVICE {service}: must be one of {known}, or strategy-2 and so on"
        )
    settings = settings_or_exit("chaos")
    try:
        asked = make(fault, seconds)
    except BadRequest:
        problem = "kill takes no time" if fault == "kill" else f"0.1 to {SECONDS_MAX:g} seconds"
        raise click.UsageError(f"SECONDS {seconds:g}: {problem}") from None
    try:
        send(settings, service, asked)
    except NotDelivered as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 1
    if isinstance(asked, Kill):
        print(f"{service} was told to kill itself")
    elif isinstance(asked, Freeze):
        print(f"{service} was told to freeze for {asked.seconds:g} s")
    else:
        print(f"{service} was told to cut its connections for {asked.seconds:g} s")
    return 0
