"""What a sweep says about luck, against a plain computation from the files that it writes."""

import csv
import math
from pathlib import Path

import numpy as np
import pandas
import pytest

from app.backtest.performance.overfitting import cscv, expected_best_sharpe, probabilistic_sharpe
from app.backtest.sweep.judgement import (
    JudgementError,
    check_folds,
    overfitting_blocks,
    returns_of,
)
from app.runtime.metrics.tables import plain_text
from tests.app.backtest.sweep.sweeping import Sweeps

CAPITAL = 2_000.0


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Three symbols over 130 days of the week, four ticks a day."""
    rng = np.random.default_rng(11)
    rows, price = ["timestamp,symbol,price"], {"A": 100.0, "B": 50.0, "C": 80.0}
    for day in pandas.date_range("2024-01-01", periods=130, freq="B"):
        for hour, symbol in ((9, "A"), (10, "B"), (11, "C"), (15, "A")):
            price[symbol] = round(price[symbol] * (1 + rng.normal(0.0005, 0.02)), 2)
            rows.append(f"{day + pandas.Timedelta(hours=hour)},{symbol},{price[symbol]}")
    path = tmp_path / "days.csv"
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def cells_of(line: str) -> list[str]:
    return [cell for cell in line.split("  ") if cell.strip()]


def sharpe(returns: np.ndarray) -> float:
    return float(returns.mean() / returns.std(ddof=1) * math.sqrt(252))


@pytest.mark.medium
def test_the_tables_follow_from_the_files(sweeps: Sweeps, data: str) -> None:
    arguments = ["--data", data, "--param", "short=2:6", "--param", "long=8,16"]
    assert sweeps.run(*arguments, "--capital", str(CAPITAL), "--folds", "3") == 0
    profit = np.load(sweeps.folder / "daily_profit.npy")
    with (sweeps.folder / "sweep.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["cell"]))
    equity = CAPITAL + np.hstack([np.zeros((10, 1)), profit])
    returns = (equity[:, 1:] / equity[:, :-1] - 1).T
    ratios = [sharpe(returns[:, i]) for i in range(10)]
    assert [float(row["sharpe"]) for row in rows] == pytest.approx(ratios, rel=1e-9)
    best = int(np.argmax(ratios))
    lines = sweeps.out.splitlines()
    shown = {line.rpartition("  ")[0].strip(): line.rpartition("  ")[2].strip() for line in lines}
    assert shown["Sharpe ratio, a year"] == f"{ratios[best]:.2f}"
    daily = np.array(ratios) / math.sqrt(252)
    luck = expected_best_sharpe(10, float(daily.var(ddof=1)))
    assert shown["to expect of the best of 10 without skill"] == f"{luck * math.sqrt(252):.2f}"
    series = pandas.Series(returns[:, best])
    skew, kurtosis = ((series - series.mean()) ** 3).mean(), ((series - series.mean()) ** 4).mean()
    deviation = float(series.std(ddof=0))
    probability = probabilistic_sharpe(
        daily[best], luck, 130, skew / deviation**3, kurtosis / deviation**4
    )
    wanted = f"{100 * probability:.1f} %"
    assert shown["deflated Sharpe ratio: more than luck with"] == wanted
    overfit = cscv(returns)
    assert overfit is not None
    wanted = f"{100 * overfit.probability:.1f} %, 924 halves of 130 days"
    assert shown["probability of backtest overfitting"] == wanted
    at = next(i for i, line in enumerate(lines) if line.startswith("fold"))
    pieces = []
    for place, first in enumerate((34, 66, 98)):  # four parts of 32 days, the first has the rest
        inside = [sharpe(returns[:first, i]) for i in range(10)]
        chosen = int(np.argmax(inside))
        pieces.append(returns[first : first + 32, chosen])
        cells = lines[at + 2 + place].split()
        values = [rows[chosen]["short"], rows[chosen]["long"]]
        assert cells[-4:-2] == values
        assert cells[-2:] == [f"{inside[chosen]:.2f}", f"{sharpe(pieces[-1]):.2f}"]
    assert lines[at + 2].split()[1:4] == ["2024-01-01", "to", "2024-02-15"]
    assert lines[at + 5].split()[-1] == f"{sharpe(np.concatenate(pieces)):.2f}"
    assert sweeps.run(*arguments, "--capital", str(CAPITAL), "--folds", "9") == 2
    assert "the data has 130 days: at most --folds 5" in sweeps.err


@pytest.mark.medium
def test_of_one_day_nothing_is_said_about_luck(sweeps: Sweeps) -> None:
    assert sweeps.run("--param", "short=2,3") == 0
    assert "luck" not in sweeps.out
    assert "best by profit" in sweeps.out


def test_a_cell_that_lost_its_capital_is_left_out() -> None:
    profit = np.array([[1.0, 2.0, 5.0], [1.0, -100.0, 50.0], [np.nan] * 3, [0.0, -50.0, 0.0]])
    found = returns_of(profit, [0, 1, 3], [1, 2, 3], 100.0)
    assert found.numbers == [0, 3]
    assert found.values.T.tolist() == [
        [101 / 100 - 1, 102 / 101 - 1, 105 / 102 - 1],
        [0.0, -0.5, 1.0],
    ]


def test_nothing_is_said_of_a_best_cell_without_returns() -> None:
    rng = np.random.default_rng(2)
    profit = rng.normal(size=(3, 100)).cumsum(axis=1)
    profit[2, 50] = -1e9
    found = returns_of(profit, [0, 1, 2], list(range(100)), 1000.0)
    assert overfitting_blocks(found, 2) == []
    assert "of the best of 2 without skill" in plain_text(*overfitting_blocks(found, 1))
    assert overfitting_blocks(returns_of(profit, [0], list(range(100)), 1000.0), 0) == []


@pytest.mark.parametrize(
    ("days", "folds", "by", "mend"),
    [
        (120, 5, "sharpe", ""),
        (119, 5, "sharpe", "at most --folds 4"),
        (39, 1, "calmar", "take more data, or --by total_return"),
        (6, 5, "total_return", ""),
        (5, 5, "profit", "at most --folds 4"),
        (11, 5, "max_drawdown", "at most --folds 4"),
    ],
)
def test_folds_need_days(days: int, folds: int, by: str, mend: str) -> None:
    if not mend:
        check_folds(days, folds, by)
        return
    with pytest.raises(JudgementError, match=mend) as error:
        check_folds(days, folds, by)
    assert f"the data has {days} days" in str(error.value)
