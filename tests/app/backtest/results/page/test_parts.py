"""Markup is escaped, points are chosen, scales are round; each part alone."""

import html as standard
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.backtest.results.page.chart import Line, chart, moment, steps
from app.backtest.results.page.downsample import extremes, pieces
from app.backtest.results.page.heat import STRENGTH_MAX, STRENGTH_MIN, Reach, month_returns, square
from app.backtest.results.page.markup import Html, html, printable, table, tag
from tests.app.backtest.html_tables import Page, outside


@given(st.text(max_size=30))
def test_any_text_is_shown_and_is_never_markup(text: str) -> None:
    made = tag("p", text, title=text)
    read = Page(made)
    assert read.tags == {"p"}
    assert standard.unescape(made[made.index(">") + 1 : -4]) == printable(text)
    assert read.attributes == [("p", "title", printable(text))]
    made.encode("utf-8")


@pytest.mark.parametrize("text", ["a\x00b", "\x1b[31m", "\udcff", "\u202egnp.exe", "a\nb"])
def test_what_no_screen_should_get_is_replaced(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(text) != text


def test_markup_is_kept_once() -> None:
    inner = tag("b", "<i>")
    assert html(inner, "&") == "<b>&lt;i&gt;</b>&amp;"
    assert isinstance(html(inner), Html)
    assert tag("input", checked=True, disabled=False, name=None) == "<input checked></input>"


def test_a_long_table_is_cut_and_says_so() -> None:
    made = Page(table("many", ["a"], [[str(i)] for i in range(1000)]))
    assert len(made.tables[0]) == 401
    assert "600 more rows" in made.text


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 3000),
    columns=st.sampled_from([1, 3, 50]),
    levels=st.sampled_from([1, 4, 10_000]),
)
def test_the_points_drawn_are_the_extremes_of_each_column(
    seed: int, count: int, columns: int, levels: int
) -> None:
    rng = np.random.default_rng(seed)
    at = np.sort(rng.integers(1_700_000_000 * 10**9, 1_800_000_000 * 10**9, count))
    value = rng.integers(0, levels, count).astype(float)
    found = extremes(at, value, columns)
    assert found.tolist() == sorted(set(found.tolist()))
    assert {0, count - 1} <= set(found.tolist())
    assert len(found) <= max(2 * columns + 2, 2)
    assert (found == extremes(at.copy(), value.copy(), columns)).all()
    column = np.minimum((at - at[0]) * (columns / max(int(at[-1] - at[0]), 1)), columns - 1)
    for each in set(column.astype(int).tolist()):
        part = value[column.astype(int) == each]
        drawn = value[found][column[found].astype(int) == each]
        assert (drawn.min(), drawn.max()) == (part.min(), part.max())


@given(st.integers(1, 500), st.integers(1, 60))
def test_pieces_are_everything_once(count: int, rows: int) -> None:
    found = pieces(count, rows)
    assert [i for part in found for i in range(count)[part]] == list(range(count))
    assert len(found) == min(rows, count)
    sizes = [part.stop - part.start for part in found]
    assert max(sizes) - min(sizes) <= 1


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_steps_of_a_scale_are_round_and_inside(low: float, span: float) -> None:
    high = low + span
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-3):
        return  # The chart widens such a scale first.
    found = steps(low, high)
    assert 1 <= len(found) <= 7
    width = (high - low) / 5
    assert all(low - width * 1e-3 <= value <= high + width * 1e-3 for value in found)
    gaps = np.diff(found)
    if len(gaps):
        digits = gaps[0] / 10.0 ** math.floor(math.log10(gaps[0] * 1.0001))
        assert min(abs(digits - each) for each in (1, 2, 2.5, 5, 10)) < 1e-3


def test_a_chart_says_in_its_table_and_its_label_what_it_draws() -> None:
    at = np.arange(5000, dtype=np.int64) * 10**9
    value = np.sin(at / 4e11) * 100
    made = Page(chart("Depth", [Line("one", "first", at, value),
                                Line("two", "second", at, -value)], unit=" x"))  # fmt: skip
    rows = made.table("Depth")
    assert len(rows) == 40
    assert [float(row[1].rstrip(" x")) for row in rows] == [
        round(float(value[end - 1]), 2) for end in range(125, 5001, 125)
    ]
    assert float(rows[3][2].rstrip(" x")) == round(float(value[375:500].min()), 2)
    assert float(rows[3][3].rstrip(" x")) == round(float(value[375:500].max()), 2)
    assert float(rows[3][4].rstrip(" x")) == round(float(-value[499]), 2)
    label = next(value for _, name, value in made.attributes if name == "aria-label")
    assert f"highest {value.max():,.2f} x" in label
    assert outside(made) == []


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0, 1e-12])
def test_a_flat_or_short_line_is_drawn(value: float) -> None:
    one = np.array([7], np.int64)
    assert "<path" in chart("flat", [Line("one", "first", one, np.array([value]))])
    many = np.arange(9, dtype=np.int64)
    made = chart("flat", [Line("one", "first", many, np.full(9, value))], area=True)
    assert "nan" not in made
    assert "nothing to show" in chart("none", [Line("one", "first", many[:0], np.empty(0))])


def test_moments() -> None:
    ns = 1_700_000_000 * 10**9
    assert moment(ns, 0) == "2023-11-14 22:13:20"
    assert moment(ns, 10**9 * 86_400) == "2023-11-14 22:13"
    assert moment(ns, 10**9 * 86_400 * 365) == "2023-11-14"


def test_squares_tell_sign_by_text_and_strength_by_rank() -> None:
    reach = Reach([3.0, 1.0, -2.0])
    assert f"--s:{STRENGTH_MAX}%" in square("3", 3.0, reach)
    assert f"--s:{STRENGTH_MIN}%" in square("1", 1.0, reach)
    assert 'class="loss"' in square("-2", -2.0, reach)
    assert square("", None, reach) == '<td class="none">-</td>'


def test_a_month_is_the_product_of_its_days() -> None:
    day = np.array([19_722, 19_723, 19_724, 19_760])  # 2023-12-31 to 2024-01-02, 2024-02-07
    found = month_returns(day, np.array([1.0, 10.0, -10.0, 2.0]))
    assert found == pytest.approx({(2023, 12): 1.0, (2024, 1): -1.0, (2024, 2): 2.0})
