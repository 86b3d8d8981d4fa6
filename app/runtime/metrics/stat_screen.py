"""The full-screen drawing of the ``stat`` view; the one module that imports ``rich``."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from app.runtime.metrics.figures import LATENCY_HEADER, PROCESS_HEADER

Rows = Sequence[Sequence[str]]
Show = Callable[[Rows, Rows, Sequence[str], str], None]

STATE_STYLES = {"ready": "green", "done": "cyan", "starting": "yellow", "draining": "yellow"}
STATE_COLUMN = PROCESS_HEADER.index("state")


@contextmanager
def screen() -> Iterator[Show]:
    """Take the terminal over; yields a function that draws one refresh."""
    with Live(screen=True, auto_refresh=False) as live:

        def show(processes: Rows, latencies: Rows, counters: Sequence[str], caption: str) -> None:
            live.update(_draw(processes, latencies, counters, caption), refresh=True)

        yield show


def _draw(processes: Rows, latencies: Rows, counters: Sequence[str], caption: str) -> Group:
    return Group(
        _table(PROCESS_HEADER, processes, words=2),
        _table(LATENCY_HEADER, latencies, words=1),
        Text("\n".join(counters)),
        Text(caption, style="dim"),
    )


def _table(header: Sequence[str], rows: Rows, words: int) -> Table:
    """``words`` columns of text on the left, then numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index < words else "right", no_wrap=True)
    for row in rows:
        cells = [Text(cell) for cell in row]
        if header is PROCESS_HEADER:
            cells[STATE_COLUMN].stylize(STATE_STYLES.get(row[STATE_COLUMN], "red"))
        table.add_row(*cells)
    return table
