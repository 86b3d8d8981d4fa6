"""HTML from Python values: whatever is not markup already is escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from rich.table import Table

Child = str | int | float
ROWS_OPEN_MAX: Final = 400
"""Of a table, so that a page's size is bounded."""


class Html(str):
    """Text that is markup."""

    __slots__ = ()


def printable(text: str) -> str:
    """Text that any encoding and any screen can take: a control character becomes U+FFFD."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def html(*children: Child) -> Html:
    """The children one after the other."""
    return Html(
        "".join(
            each if isinstance(each, Html) else escape(printable(str(each))) for each in children
        )
    )


def tag(name: str, /, *children: Child, **attributes: Child | bool | None) -> Html:
    """An element; ``class_`` is ``class``, ``aria_label`` is ``aria-label``.

    An attribute that is True has no value, one that is None or False is left out.
    """
    parts = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        parts.append(f" {key}" if value is True else f' {key}="{html(value)}"')
    return Html(f"<{name}{''.join(parts)}>{html(*children)}</{name}>")


def table(
    caption: str, header: Sequence[str], rows: Iterable[Sequence[Child]], *, texts: int = 1
) -> Html:
    """A table that scrolls sideways where it is too wide; all but the first ``texts`` are numbers.

    Rows that are too many are counted, not shown.
    """
    lines = list(rows)
    shown = [
        tag(
            "tr",
            *(
                tag("th", cell, scope="row")
                if place == 0
                else cell
                if _is_cell(cell)
                else tag("td", cell, class_="text" if place < texts else None)
                for place, cell in enumerate(line)
            ),
        )
        for line in lines[:ROWS_OPEN_MAX]
    ]
    prose = {place for line in lines[:1] for place, cell in enumerate(line) if _is_cell(cell)}
    heads = [
        tag("th", name, scope="col", class_="text" if place < texts or place in prose else None)
        if name
        else tag("td", "")
        for place, name in enumerate(header)
    ]
    left = len(lines) - len(shown)
    more = [tag("p", f"{left:,} more rows are in the Parquet files.")] if left > 0 else []
    made = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *heads)),
        tag("tbody", *shown),
    )
    return html(wide(made, caption), *more)


def _is_cell(cell: Child) -> bool:
    """Whether it is a whole cell already, of text."""
    return isinstance(cell, Html) and cell.startswith("<td")


def wide(content: Html, label: str) -> Html:
    """What may be wider than a phone; also the keyboard can scroll it."""
    return tag("div", content, class_="wide", tabindex="0", role="group", aria_label=label)


def from_terminal(caption: str, shown: Table) -> Html:
    """A table of the command's output."""
    columns = [list(column.cells) for column in shown.columns]
    header = [str(column.header) for column in shown.columns]
    rows = [[str(cell) for cell in row] for row in zip(*columns, strict=True)]
    return table(caption, header, rows)


def details(summary: str, *content: Html) -> Html:
    """Content that opens with a click; closed it is not printed."""
    return tag("details", tag("summary", summary), *content)


def section(title: str, *content: Html, note: Child = "") -> Html:
    """A part of the page."""
    notes = [tag("p", note, class_="note")] if note else []
    return tag("section", tag("h2", title), *notes, *content)
