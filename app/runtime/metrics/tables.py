"""Tables for a terminal, as plain text and as Markdown.  Numbers are right-aligned, words left."""

import io
from collections.abc import Mapping, Sequence
from typing import Final, TextIO

from rich.box import Box
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from app.model.position import COST_NAMES

EMPTY = "-"
HEADER_RULE: Final = Box("    \n    \n -  \n" + 5 * "    \n", ascii=True)
"""No lines except one of dashes under the header."""
UNLIMITED_COLUMNS: Final = 100_000

Row = Sequence[str]
TitledTable = tuple[str, Row, list[list[str]]]
"""Title, header, rows."""


def number(value: float | None, digits: int = 0) -> str:
    """``12,345.6``; ``-`` for None; no ``-0.0``."""
    return EMPTY if value is None else f"{value:z,.{digits}f}"


def micros(value_ns: int | None) -> str:
    """Nanoseconds as microseconds with one digit; ``-`` for None."""
    return EMPTY if value_ns is None else number(value_ns / 1000, 1)


def cost_tables(costs: Mapping[str, float | None]) -> list[TitledTable]:
    """A table of what trading has cost; none if it cost nothing.

    ``costs``: money and basis points, by the names of :meth:`RunCosts.figures`.
    """
    if not any(costs.get(kind) for kind in COST_NAMES):
        return []
    rows = [
        [name, number(costs[kind], 2), number(costs[f"{kind}_bps"], 3)]
        for kind, name in COST_NAMES.items()
    ]
    return [("Costs, in the profit", ("cost, in the profit", "money", "bps of turnover"), rows)]


def table(header: Row, rows: Sequence[Sequence[str | Text]]) -> Table:
    """A table for :func:`show` or :func:`plain_text`; a cell may bring its style."""
    made = Table(box=HEADER_RULE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    plain = [[str(cell) for cell in row] for row in rows]
    for name, right in zip(header, _right_columns(header, plain), strict=True):
        justify: JustifyMethod = "right" if right else "left"
        made.add_column(Text(name), justify=justify, no_wrap=right, overflow="fold")
    for row in rows:
        # Text: brackets in a str would be read as markup.
        made.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return made


def spaced(*blocks: RenderableType) -> Group:
    """Blocks below each other, a blank line between."""
    rows: list[RenderableType] = []
    for block in blocks:
        rows += [Text(), block] if rows else [block]
    return Group(*rows)


def plain_text(*blocks: RenderableType) -> str:
    """Blocks as text of unlimited width, a blank line between, no final newline."""
    output = io.StringIO()
    # force_terminal: else FORCE_COLOR in the environment would add colors.
    console = Console(file=output, force_terminal=False, color_system=None, width=UNLIMITED_COLUMNS)
    console.print(spaced(*blocks))
    return "\n".join(line.rstrip() for line in output.getvalue().removesuffix("\n").split("\n"))


def show(*blocks: RenderableType, file: TextIO) -> None:
    """Print blocks: fitted to the terminal where ``file`` is one, else as plain text."""
    if file.isatty():
        Console(file=file).print(spaced(*blocks))
    else:
        print(plain_text(*blocks), file=file, flush=True)


def markdown_table(header: Row, rows: Sequence[Row]) -> str:
    """A pipe table; a ``|`` within a cell is escaped."""
    right = _right_columns(header, rows)
    rule = "|" + "|".join("---:" if r else "---" for r in right) + "|"
    return "\n".join([_pipes(header), rule, *map(_pipes, rows)])


def _pipes(row: Row) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _right_columns(header: Row, rows: Sequence[Row]) -> list[bool]:
    """Which columns hold only numbers."""
    return [
        bool(rows)
        and all(row[i] in ("", EMPTY) or row[i].lstrip("-")[:1].isdigit() for row in rows)
        for i in range(len(header))
    ]
