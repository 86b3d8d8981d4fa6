"""``python -m app trace``: where the time of an order went.

Needs nothing but read access to the trace segment.
"""

import json
import sys

import click

from app.config.loading import settings_or_exit
from app.runtime.metrics.tables import show, spaced
from app.runtime.trace.chrome import chrome_trace
from app.runtime.trace.reader import OrderTimes, read_orders, trace_of
from app.runtime.trace.waterfall import as_json, is_answered, waterfall
from app.shared_memory_utils.segment import SegmentError


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1, type=click.IntRange(min=0))
@click.option("--client", metavar="NAME", help="only orders of this client, e.g. strategy")
@click.option("--last", metavar="N", type=click.IntRange(min=1), help="only the N latest orders")
@click.option("--json", "in_json", is_flag=True, help="one JSON object for each order")
@click.option(
    "--chrome",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="write FILE (- for standard output) for ui.perfetto.dev",
)
def command(
    ids: tuple[int, ...], client: str | None, last: int | None, in_json: bool, chrome: str | None
) -> int:
    """Show when an order was where.

    Without ID it shows the latest order that is answered; with --json or --chrome, all that are
    kept (TRACE_ORDERS).

    Exit code 0; 1 if there is no such order, or nothing to read; 2 for invalid settings.
    """
    settings = settings_or_exit("trace")
    try:
        found = _find(settings.shm_trace, ids, client)
        if missing := [str(each) for each in ids if each not in {order.id for order in found}]:
            whose = f" of {client}" if client else ""
            print(
                f"trace: no order {', '.join(missing)}{whose} among the last "
                f"{settings.trace_orders} or so (TRACE_ORDERS)",
                file=sys.stderr,
            )
        shown = found[-last:] if last else found
        if not ids and not last and not in_json and chrome is None:
            # One that is on its way is of no use yet, unless there is no other.
            answered = [order for order in found if is_answered(order.attempts[-1])]
            shown = (answered or found)[-1:]
        if chrome is not None:
            with click.open_file(chrome, "w") as file:
                file.write(json.dumps(chrome_trace(shown)) + "\n")
        elif in_json:
            for order in shown:
                print(json.dumps(as_json(order)))
        elif shown:
            blocks = [block for order in shown for block in waterfall(order)]
            show(spaced(*blocks), file=sys.stdout)
    except (SegmentError, OSError) as error:
        print(f"trace: {error}", file=sys.stderr)
        return 1
    if not found and not ids:
        print("trace: no order yet", file=sys.stderr)
    return 1 if missing or not found else 0


def _find(segment: str, ids: tuple[int, ...], client: str | None) -> list[OrderTimes]:
    """The orders asked for, the latest last."""
    if ids:
        found = [order for each in dict.fromkeys(ids) for order in trace_of(segment, each, client)]
        return sorted(found, key=lambda order: order.begin_ns)
    return [
        order
        for order in read_orders(segment)
        if client is None or client in (order.client, order.client.partition("@")[0])
    ]
