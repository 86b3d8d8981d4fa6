"""Squares of a heat map: blue above zero, orange below, the stronger the further from it."""

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from app.backtest.results.page.markup import Html, html, tag, wide
from app.backtest.results.tables import Table

STRENGTH_MIN, STRENGTH_MAX = 8, 55
"""Percent of colour in the square nearest to zero of its sign, and in the one furthest from it.
Above it, text has too little contrast."""
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Reach:
    """How far the values of a map are from zero, on each side."""

    def __init__(self, values: Iterable[float]) -> None:
        known = list(values)
        self._sizes = {
            gain: [abs(value) for value in known if (value >= 0) is gain] for gain in (True, False)
        }

    def strength(self, value: float) -> int:
        """Percent of colour."""
        sizes = self._sizes[value >= 0]
        low, high = min(sizes), max(sizes)
        share = (abs(value) - low) / (high - low) if high > low else 0.5
        return round(STRENGTH_MIN + share * (STRENGTH_MAX - STRENGTH_MIN))


def square(text: str, value: float | None, reach: Reach, *, is_best: bool = False) -> Html:
    """One square; without a value it says so."""
    if value is None:
        return tag("td", "-", class_="none")
    look = ("gain" if value >= 0 else "loss") + (" best" if is_best else "")
    return tag("td", text, class_=look, style=f"--s:{reach.strength(value)}%")


def month_returns(
    day: npt.NDArray[np.int64], return_pct: npt.NDArray[np.float64]
) -> dict[tuple[int, int], float]:
    """(year, month) -> return in percent, of the days ``day`` since 1970 that are in it."""
    months = day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    found = {}
    for month in np.unique(months).tolist():
        whole = float(np.prod(1 + return_pct[months == month] / 100) - 1)
        found[1970 + month // 12, month % 12 + 1] = 100 * whole
    return found


def months(daily: Table) -> Html:
    """A row per year: each month, the year, and buy and hold beside it."""
    day = daily["date"].astype(np.int64)
    told = ~np.isnan(daily["return_pct"])
    ours = month_returns(day[told], daily["return_pct"][told])
    theirs = month_returns(day, daily["benchmark_return_pct"])
    reach = Reach(ours.values())
    rows = []
    for year in sorted({year for year, _ in theirs}):
        cells = []
        for month in range(1, 13):
            value = ours.get((year, month))
            cells.append(square("" if value is None else f"{value:+,.2f}", value, reach))
        sums = [_year(found, year) for found in (ours, theirs)]
        cells += [
            tag("td", "-" if value is None else f"{value:+,.2f}", class_="sum") for value in sums
        ]
        rows.append(tag("tr", tag("th", year, scope="row"), *cells))
    heads = ("year", *MONTHS, "year", "buy and hold")
    header = tag("tr", *(tag("th", name, scope="col") for name in heads))
    caption = "Return of each month, percent"
    made = tag(
        "table",
        tag("caption", caption),
        tag("thead", header),
        tag("tbody", *rows),
        class_="heat",
    )
    return html(wide(made, caption))


def _year(found: dict[tuple[int, int], float], year: int) -> float | None:
    values = [value for (each, _), value in found.items() if each == year]
    return 100 * (float(np.prod([1 + value / 100 for value in values])) - 1) if values else None
