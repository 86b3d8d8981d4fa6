"""The grid of a sweep: ranges, lists, and seeded samples."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.backtest.sweep import grid
from app.backtest.sweep.grid import Axis, GridError
from app.runtime.run.strategy_params import read_params

WORDS = st.text(st.characters(categories=("L", "N", "Zs")), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        ("short=5:20:5", ["5", "10", "15", "20"]),
        ("short=5:21:5", ["5", "10", "15", "20"]),
        ("short=3:5", ["3", "4", "5"]),
        ("band=0.1:0.5:0.1", ["0.1", "0.2", "0.3", "0.4", "0.5"]),
        ("band=-1:1:0.5", ["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
        ("long=20,50,100", ["20", "50", "100"]),
        ("long=20, 50", ["20", "50"]),
        ("long=1:3,10,2:4:2", ["1", "2", "3", "10", "4"]),
        ("shorts=true,false", ["true", "false"]),
        ("mode=both,long only", ["both", "long only"]),
        ("x=7:7:100", ["7"]),
    ],
)
def test_axis(spec: str, values: list[str]) -> None:
    found = grid.axis(spec)
    name = spec.partition("=")[0]
    assert found.name == name
    if name == "band":  # exact decimals, however they are written
        assert [float(value) for value in found.values] == [float(value) for value in values]
        assert all(len(value) <= 4 for value in found.values)
    else:
        assert list(found.values) == values


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("short", "give NAME=low:high:step"),
        ("=5", "give NAME="),
        ("short=", "a value is empty"),
        ("short=5,,6", "a value is empty"),
        ("short=5:x:1", "5:x:1 is no range"),
        ("short=5:nan", "is no range"),
        ("short=5:1e9999999:1", "is no range"),
        ("short=1:2:3:4", "is no range"),
        ("short=20:5:5", "must rise"),
        ("short=5:20:0", "must rise"),
        ("short=0:1:0.0000001", "more than 100,000 values"),
        ("short=0:99999:1,200000:299999", "more than 100,000 values"),
    ],
)
def test_axis_refuses(spec: str, part: str) -> None:
    with pytest.raises(GridError, match=part) as error:
        grid.axis(spec)
    assert f"--param {spec}: " in str(error.value)


AXES = st.lists(st.lists(WORDS, min_size=1, max_size=6, unique=True), min_size=1, max_size=4).map(
    lambda axes: [Axis(f"p{i}", tuple(values)) for i, values in enumerate(axes)]
)


@given(AXES)
def test_the_grid_is_the_product_of_the_axes(axes: list[Axis]) -> None:
    found = grid.cells(axes, {"other": "it's"})
    assert [cell.values for cell in found] == list(itertools.product(*(a.values for a in axes)))
    assert [cell.number for cell in found] == list(range(len(found)))
    for cell in found:
        names = [each.name for each in axes]
        wanted = {"other": "it's"} | dict(zip(names, cell.values, strict=True))
        assert read_params(cell.text) == wanted


@given(AXES, st.integers(1, 500), st.integers(0, 9))
def test_a_sample_has_no_cell_twice(axes: list[Axis], count: int, seed: int) -> None:
    every = [cell.values for cell in grid.cells(axes, {})]
    drawn = [cell.values for cell in grid.cells(axes, {}, count, seed)]
    assert len(set(drawn)) == len(drawn) == min(count, len(every))
    assert [values for values in every if values in set(drawn)] == drawn
    assert drawn == [cell.values for cell in grid.cells(axes, {}, count, seed)]


def test_a_sample_of_a_huge_grid() -> None:
    axes = [grid.axis(f"{name}=1:1000") for name in "abcde"]
    found = grid.cells(axes, {}, 300, 7)
    assert len({cell.values for cell in found}) == 300
    other = grid.cells(axes, {}, 300, 8)
    assert not {cell.values for cell in found} & {cell.values for cell in other}
    # Uniform: the mean of 300 draws from 1 to 1000, within four standard errors.
    for place in range(5):
        mean = sum(int(cell.values[place]) for cell in found) / 300
        assert abs(mean - 500.5) < 4 * 1000 / math.sqrt(12 * 300)


def test_every_cell_is_drawn_equally_often() -> None:
    axes = [grid.axis("a=0:9"), grid.axis("b=0:9")]
    counts = dict.fromkeys(range(100), 0)
    for seed in range(400):
        for cell in grid.cells(axes, {}, 10, seed):
            counts[int(cell.values[0]) * 10 + int(cell.values[1])] += 1
    # Chi-squared with 99 degrees of freedom: below 150 in 99.9 %.
    assert sum((count - 40) ** 2 / 40 for count in counts.values()) < 150


def test_refuses_what_is_too_large_or_doubled() -> None:
    axes = [grid.axis(f"{name}=1:1000") for name in "abcdefg"]
    with pytest.raises(GridError, match=r"1,000,000 cells, at most 100,000.*--random"):
        grid.cells(axes[:2], {})
    with pytest.raises(GridError, match="even to draw from"):
        grid.cells(axes, {}, 5)
    with pytest.raises(GridError, match="--param a is given twice"):
        grid.cells([axes[0], axes[0]], {}, 5)
