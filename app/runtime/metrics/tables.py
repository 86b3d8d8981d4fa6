"""Tables of text: aligned for a terminal, or as Markdown.  Numbers stand right, words left."""

from collections.abc import Sequence

EMPTY = "-"

Row = Sequence[str]


def number(value: float | None, digits: int = 0) -> str:
    """``12,345.6``; ``-`` for None."""
    return EMPTY if value is None else f"{value:,.{digits}f}"


def micros(value_ns: int | None) -> str:
    """Nanoseconds as microseconds with one digit; ``-`` for None."""
    return EMPTY if value_ns is None else number(value_ns / 1000, 1)


def text_table(header: Row, rows: Sequence[Row]) -> str:
    """Columns two spaces apart, no trailing blanks, no final newline."""
    right = _right_columns(header, rows)
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(row: Row) -> str:
        cells = zip(row, widths, right, strict=True)
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in cells).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, rows)])


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
