"""A page with the sweep's measure over every two of its parameters; one file, opens offline."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from app.backtest.sweep.cell_run import Outcome, Status
from app.backtest.sweep.grid import Axis, Cell
from app.backtest.sweep.table import measure, text_of

FILE: Final = "heat_map.html"
VALUES_MAX: Final = 60
"""Of one parameter in a map; a finer one cannot be read."""
STRENGTH_MIN, STRENGTH_MAX = 8, 75
"""Percent of colour in the square nearest to zero of its sign, and in the one furthest from it."""

STYLE: Final = """
:root { color-scheme: light dark; --ground: #fff; --text: #1b1f24; --muted: #57606a;
  --line: #d0d7de; --gain: #1f6fb2; --loss: #c4581a; --best: #1b1f24; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181d; --text: #e6e9ed; --muted: #9aa4af;
  --line: #333b44; --gain: #58a6e8; --loss: #e08a4f; --best: #fff; } }
body { background: var(--ground); color: var(--text); font: 15px/1.5 system-ui, sans-serif;
  margin: 2rem auto; max-width: 80rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
p { color: var(--muted); margin: .2rem 0; } code { font-size: .95em; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .8rem; }
th { color: var(--muted); font-weight: 600; padding: .2rem .5rem; text-align: right; }
td { border: 1px solid var(--ground); padding: .3rem .45rem; text-align: right; min-width: 2.6rem;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
td.gain { background: color-mix(in srgb, var(--gain) var(--s), var(--ground)); }
td.loss { background: color-mix(in srgb, var(--loss) var(--s), var(--ground)); }
td.none { color: var(--muted); text-align: center; border-color: var(--line); }
td.best { outline: 3px solid var(--best); outline-offset: -3px; font-weight: 700; }
"""


class Square(NamedTuple):
    """What a map shows of the cells with two values in common."""

    value: float | None
    cells: int
    is_best: bool


def write(
    folder: Path, axes: Sequence[Axis], cells: Sequence[Cell], ranked: Sequence[Outcome], by: str
) -> Path | None:
    """Write the page; None if no two parameters have several values.

    ``ranked``: the cells that ran, best first.
    """
    places = [i for i, axis in enumerate(axes) if 1 < len(axis.values) <= VALUES_MAX]
    if len(places) < 2 or not ranked:
        return None
    path = folder / FILE
    path.write_text(page(axes, cells, ranked, by, places), encoding="utf-8")
    return path


def page(
    axes: Sequence[Axis],
    cells: Sequence[Cell],
    ranked: Sequence[Outcome],
    by: str,
    places: Sequence[int],
) -> str:
    """The page as text."""
    best = ranked[0]
    name = by.replace("_", " ")
    maps = [
        _map(axes, row, column, squares(cells, ranked, by, row, column), by)
        for row, column in combinations(places, 2)
    ]
    head = (
        f"<h1>{escape(name)} of {len(ranked):,} cells</h1>"
        f"<p>Best: <code>{escape(cells[best.number].text)}</code>, "
        f"{escape(name)} {text_of(by, measure(best, by))}, trades hash "
        f"<code>{best.trades_hash}</code>. A good choice has good neighbours. "
        "Blue is above zero, orange below; the stronger, the further from it.</p>"
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Sweep: {escape(name)}</title><style>{STYLE}</style></head><body>"
        f"{head}{''.join(maps)}</body></html>\n"
    )


def squares(
    cells: Sequence[Cell], ranked: Iterable[Outcome], by: str, row: int, column: int
) -> dict[tuple[str, str], Square]:
    """For each pair of values that ran: the median over the other parameters."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    counts: dict[tuple[str, str], int] = defaultdict(int)
    best: tuple[str, str] | None = None
    for outcome in ranked:
        if outcome.status is not Status.OK:
            continue
        values = cells[outcome.number].values
        key = values[row], values[column]
        best = best or key
        counts[key] += 1
        value = measure(outcome, by)
        if value is not None and math.isfinite(value):
            found[key].append(value)
    return {
        key: Square(median(found[key]) if found[key] else None, count, key == best)
        for key, count in counts.items()
    }


def _map(
    axes: Sequence[Axis],
    row: int,
    column: int,
    found: dict[tuple[str, str], Square],
    by: str,
) -> str:
    known = [each.value for each in found.values() if each.value is not None]
    reach = {
        gain: [abs(value) for value in known if (value >= 0) is gain] for gain in (True, False)
    }
    several = any(each.cells > 1 for each in found.values())
    note = "<p>Each square is the median over the other parameters.</p>" if several else ""
    rows, columns = axes[row], axes[column]
    header = "".join(f'<th scope="col">{escape(value)}</th>' for value in columns.values)
    lines = [
        f'<tr><th scope="row">{escape(value)}</th>'
        + "".join(_square(found.get((value, other)), by, reach) for other in columns.values)
        + "</tr>"
        for value in rows.values
    ]
    names = f"{escape(rows.name)} down, {escape(columns.name)} across"
    return (
        f'<h2>{names}</h2>{note}<div class="wide"><table><thead><tr><th></th>{header}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _square(square: Square | None, by: str, reach: dict[bool, list[float]]) -> str:
    """``reach``: the sizes of the map's gains (True), and of its losses."""
    if square is None or square.value is None:
        return '<td class="none">-</td>'
    sizes = reach[square.value >= 0]
    low, high = min(sizes), max(sizes)
    share = (abs(square.value) - low) / (high - low) if high > low else 0.5
    strength = round(STRENGTH_MIN + share * (STRENGTH_MAX - STRENGTH_MIN))
    kind = "gain" if square.value >= 0 else "loss"
    best = " best" if square.is_best else ""
    return f'<td class="{kind}{best}" style="--s:{strength}%">{text_of(by, square.value)}</td>'
