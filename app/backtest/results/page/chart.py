"""Line charts as SVG: lines stretch with the page, text and marks do not."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from app.backtest.results.page.downsample import Floats, Ints, extremes, pieces
from app.backtest.results.page.markup import Child, Html, details, html, table, tag

WIDTH, HEIGHT = 10_000, 1000
"""Of the coordinates; the browser stretches them."""
MARGIN: Final = 0.06
"""Of the height, above and below the lines."""
ROOM: Final = 0.12
"""Of the height: a label closer to the top is below its line, one closer to the bottom left out."""
TIME_LABELS: Final = 6
TABLE_ROWS: Final = 40
DAY_NS: Final = 24 * 3600 * 10**9
MARK: Final = {"buy": "M0 -7L5.5 3.5H-5.5Z", "sell": "M0 7L5.5 -3.5H-5.5Z"}


class Line(NamedTuple):
    """One line: its name, its look (a class of the style), and its points."""

    name: str
    look: str
    at: Ints
    value: Floats


class Mark(NamedTuple):
    """A trade on the line: ``buy`` or ``sell``, and what it says when pointed at."""

    look: str
    at: int
    value: float
    title: str


class _Scale(NamedTuple):
    first: int
    span: int
    low: float
    high: float

    def x(self, at: npt.ArrayLike) -> Floats:
        """In shares of the width."""
        return (np.asarray(at) - self.first) / max(self.span, 1)

    def y(self, value: npt.ArrayLike) -> Floats:
        """In shares of the height, from the top."""
        share = (np.asarray(value) - self.low) / ((self.high - self.low) or 1.0)
        found: Floats = 1 - MARGIN - share * (1 - 2 * MARGIN)
        return found


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    unit: str = "",
    decimals: int = 2,
    low: bool = False,
    area: bool = False,
    zero: bool = False,
    marks: Sequence[Mark] = (),
) -> Html:
    """A figure with its key, and behind it a table with the same figures.

    ``area``: the first line's is filled down to zero; ``zero``: zero is part of the scale.
    """
    lines = [line for line in lines if len(line.at)]
    if not lines:
        return tag("p", f"{title}: nothing to show.", class_="note")
    scale = _scale(lines, marks, zero or area)
    inside = [_grid(scale, unit)]
    curves = [_curve(line, scale, area and place == 0) for place, line in enumerate(lines)]
    inside.append(
        tag(
            "svg",
            *curves,
            viewBox=f"0 0 {WIDTH} {HEIGHT}",
            preserveAspectRatio="none",
            width="100%",
            height="100%",
        )
    )
    inside += [_mark(mark, scale) for mark in marks]
    inside.append(_times(scale))
    picture = tag(
        "svg",
        *inside,
        class_="chart low" if low else "chart",
        role="img",
        aria_label=_spoken(title, lines, unit, decimals),
    )
    keys = [_key(line.name, line.look) for line in lines] if len(lines) > 1 else []
    return tag(
        "figure",
        tag("figcaption", tag("span", title), *keys, *_mark_keys(marks)),
        picture,
        details(f"{title} as a table", _table(title, lines, unit, decimals)),
    )


def _scale(lines: Sequence[Line], marks: Sequence[Mark], zero: bool) -> _Scale:
    values = [float(edge(line.value)) for line in lines for edge in (np.min, np.max)]
    values += [mark.value for mark in marks] + ([0.0] if zero else [])
    first = min(int(line.at[0]) for line in lines)
    last = max(int(line.at[-1]) for line in lines)
    low, high = min(values), max(values)
    if high - low < 1e-12 * max(1.0, abs(high)):
        pad = abs(high) * 0.01 or 1.0
        low, high = low - pad, high + pad
    return _Scale(first, last - first, low, high)


def _curve(line: Line, scale: _Scale, area: bool) -> Html:
    chosen = extremes(line.at, line.value)
    x = np.rint(scale.x(line.at[chosen]) * WIDTH).astype(int).tolist()
    y = np.rint(scale.y(line.value[chosen]) * HEIGHT).astype(int).tolist()
    points = "L".join(f"{a} {b}" for a, b in zip(x, y, strict=True))
    drawn = [tag("path", d=f"M{points}", class_=f"series {line.look}")]
    if area:
        floor = round(float(scale.y(0.0)) * HEIGHT)
        drawn.insert(0, tag("path", d=f"M{x[0]} {floor}L{points}L{x[-1]} {floor}Z", class_="area"))
    return html(*drawn)


def _mark(mark: Mark, scale: _Scale) -> Html:
    # An element of its own for each, since a mark must not be stretched.
    x, y = 100 * float(scale.x(mark.at)), 100 * float(scale.y(mark.value))
    return tag(
        "svg",
        tag("path", tag("title", mark.title), d=MARK[mark.look], class_=mark.look),
        x=f"{x:.2f}%",
        y=f"{y:.2f}%",
        overflow="visible",
    )


def steps(low: float, high: float, count: int = 5) -> list[float]:
    """Round values between two, evenly spaced."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _grid(scale: _Scale, unit: str) -> Html:
    values = steps(scale.low, scale.high)
    step = values[1] - values[0] if len(values) > 1 else 1.0
    places = max(0, min(9, -math.floor(math.log10(step) + 1e-9))) if step < 1 else 0
    if step >= 1 and any(value != round(value) for value in values):
        places = 1
    drawn = []
    for value in values:
        share = float(scale.y(value))
        y = f"{100 * share:.2f}%"
        look = "grid zero" if value == 0 else "grid"
        drawn.append(tag("line", x1="0", x2="100%", y1=y, y2=y, class_=look))
        label = f"{value:,.{places}f}{unit}"
        if share < 1 - ROOM:  # Else it would be on the times.
            drawn.append(tag("text", label, x="2", y=y, dy="13" if share < ROOM else "-3"))
    return html(*drawn)


def _times(scale: _Scale) -> Html:
    """Labels along the bottom; every second is left out where there is no room."""
    drawn = []
    for place in range(TIME_LABELS):
        share = place / (TIME_LABELS - 1)
        text = moment(scale.first + round(scale.span * share), scale.span)
        anchor = "start" if place == 0 else "end" if place == TIME_LABELS - 1 else "middle"
        drawn.append(
            tag(
                "text",
                text,
                x=f"{100 * share:.0f}%",
                y="100%",
                dy="-4",
                text_anchor=anchor,
                class_="roomy" if 0 < place < TIME_LABELS - 1 else None,
            )
        )
    return html(*drawn)


def moment(event_ns: int, span_ns: int) -> str:
    """A time, as exact as a span of such a length needs it."""
    text = str(np.datetime_as_string(np.datetime64(event_ns, "ns"), unit="s")).replace("T", " ")
    if span_ns > 90 * DAY_NS:
        return text[:10]
    return text[:16] if span_ns > 2 * 3600 * 10**9 else text


def _spoken(title: str, lines: Sequence[Line], unit: str, decimals: int) -> str:
    def number(value: float) -> str:
        return f"{value:,.{decimals}f}{unit}"

    parts = [
        f"{line.name} from {number(line.value[0])} to {number(line.value[-1])}, "
        f"lowest {number(line.value.min())}, highest {number(line.value.max())}"
        for line in lines
    ]
    return f"{title}: {'; '.join(parts)}"


def _key(name: Child, look: str) -> Html:
    line = tag("line", x1="0", x2="35", y1="6", y2="6", class_=f"series {look}")
    return tag("span", tag("svg", line, aria_hidden="true"), " ", name, class_="key")


def _mark_keys(marks: Sequence[Mark]) -> list[Html]:
    found = []
    for look in MARK:
        if any(mark.look == look for mark in marks):
            shape = tag("path", d=MARK[look], class_=look, transform="translate(8 6)")
            found.append(
                tag("span", tag("svg", shape, aria_hidden="true"), look.upper(), class_="key")
            )
    return found


def _table(title: str, lines: Sequence[Line], unit: str, decimals: int) -> Html:
    """Each row: the first line's last, lowest and highest value in a part, the others' last."""
    main, *others = lines
    span = int(main.at[-1] - main.at[0])
    rows: list[list[Child]] = []
    for part in pieces(len(main.at), TABLE_ROWS):
        end = int(main.at[part][-1])
        values = [main.value[part][-1], main.value[part].min(), main.value[part].max()]
        for line in others:
            values.append(line.value[max(int(np.searchsorted(line.at, end, "right")) - 1, 0)])
        rows.append([moment(end, span), *(f"{value:,.{decimals}f}{unit}" for value in values)])
    header = ["until, UTC", main.name, "lowest", "highest", *(line.name for line in others)]
    return table(title, header, rows)
