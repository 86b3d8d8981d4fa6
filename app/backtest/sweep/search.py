"""Which cells run: all that are listed, or those that Optuna chooses from the results so far.

Optuna is an optional package.
"""

import importlib
from collections.abc import Container, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, Protocol

from app.backtest.sweep.cell_run import Outcome
from app.backtest.sweep.grid import NUMBER, Axis, Cell, GridError, cell_of, size_of, values_at
from app.backtest.sweep.table import measure
from app.runtime.run.strategy_params import Given

ROUND: Final = 10
"""Cells that are chosen before the outcome of the first of them is known.

It is not the number of workers, so the choice is the same on every machine.
"""
REPEATS_MAX: Final = 50
"""So often in a row may a known combination be suggested; then the first unknown one runs."""
INSTALL: Final = "install it with .venv/bin/pip install optuna"


def optuna() -> Any:
    """The package.

    Raises:
        GridError: it is not installed.
    """
    try:
        found = importlib.import_module("optuna")
    except ImportError as error:
        raise GridError(f"--optuna: {error}: {INSTALL}") from None
    found.logging.set_verbosity(found.logging.WARNING)
    return found


class Plan(Protocol):
    """Gives out the cells of a sweep, in rounds.

    ``cells``: all that were given out or are known, by number; it grows.  ``count``: how many there
    will be.  ``at_once``: in one round.  ``choice``: what decides which.
    """

    cells: list[Cell]
    count: int
    at_once: int
    choice: str

    def next_round(self) -> list[Cell]:
        """The next cells; none at the end."""

    def tell(self, outcomes: Mapping[int, Outcome]) -> None:
        """The outcomes so far, by number."""


class Listed:
    """All cells are known."""

    def __init__(self, cells: list[Cell]) -> None:
        self.cells, self.count, self.at_once = cells, len(cells), len(cells)
        self.choice = sha256(repr([cell.values for cell in cells]).encode()).hexdigest()[:16]
        self._left = cells

    def next_round(self) -> list[Cell]:
        """All, once."""
        cells, self._left = self._left, []
        return cells

    def tell(self, outcomes: Mapping[int, Outcome]) -> None:
        """Nothing follows from them."""


class Search:
    """Chooses ``count`` different cells in rounds; the same for the same outcomes and seed.

    ``by``: the measure of which more is looked for.  A cell without it teaches only that.

    Raises:
        GridError: Optuna is not installed, or the grid is too large.
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        fixed: Mapping[str, Given],
        count: int,
        seed: int,
        by: str,
    ) -> None:
        self._package = optuna()
        self._axes, self._fixed, self._by = axes, fixed, by
        self.count = min(count, size_of(axes))
        self.at_once = ROUND
        self.choice = f"optuna {self._package.__version__}, seed {seed}, by {by}, {ROUND} at a time"
        sampler = self._package.samplers.TPESampler(seed=seed, constant_liar=True)
        self._study = self._package.create_study(sampler=sampler, direction="maximize")
        self.cells: list[Cell] = []
        self._asked: dict[int, Any] = {}
        """Trials of the last round, by the number of their cell."""
        self._values: dict[tuple[str, ...], float | None] = {}

    def next_round(self) -> list[Cell]:
        """The next cells; none at the end.  Call :meth:`tell` before the next call."""
        assert not self._asked
        known = {cell.values for cell in self.cells}
        first = len(self.cells)
        while len(self.cells) - first < ROUND and len(self.cells) < self.count:
            trial, values = self._ask(known)
            known.add(values)
            cell = cell_of(len(self.cells), self._axes, values, self._fixed)
            self._asked[cell.number] = trial
            self.cells.append(cell)
        return self.cells[first:]

    def tell(self, outcomes: Mapping[int, Outcome]) -> None:
        """The outcomes of the last round, by number; of one that is not there nothing is known."""
        for number, trial in self._asked.items():
            outcome = outcomes.get(number)
            value = measure(outcome, self._by) if outcome else None
            self._values[self.cells[number].values] = value
            self._tell(trial, value)
        self._asked.clear()

    def _tell(self, trial: Any, value: float | None) -> None:
        failed = self._package.trial.TrialState.FAIL
        self._study.tell(trial, value, state=failed if value is None else None)

    def _ask(self, known: Container[tuple[str, ...]]) -> tuple[Any, tuple[str, ...]]:
        """A trial with a combination that is not known."""
        for _ in range(REPEATS_MAX):
            trial = self._study.ask()
            values = tuple(self._suggest(trial, axis) for axis in self._axes)
            if values not in known:
                return trial, values
            # Told again, it counts more: the search leaves the place sooner.
            self._tell(trial, self._values.get(values))
        values = self._unknown(known)
        self._study.enqueue_trial(
            {axis.name: _place(axis, value) for axis, value in zip(self._axes, values, strict=True)}
        )
        trial = self._study.ask()
        for axis in self._axes:
            self._suggest(trial, axis)
        return trial, values

    def _suggest(self, trial: Any, axis: Axis) -> str:
        """Numbers have an order; other values have none."""
        if _is_ordered(axis):
            place: int = trial.suggest_int(axis.name, 0, len(axis.values) - 1)
            return axis.values[place]
        value: str = trial.suggest_categorical(axis.name, axis.values)
        return value

    def _unknown(self, known: Container[tuple[str, ...]]) -> tuple[str, ...]:
        """The first combination of the grid that is not known; there is one."""
        at = 0
        while (values := values_at(self._axes, at)) in known:
            at += 1
        return values


def _is_ordered(axis: Axis) -> bool:
    return all(NUMBER.fullmatch(value) for value in axis.values)


def _place(axis: Axis, value: str) -> int | str:
    return axis.values.index(value) if _is_ordered(axis) else value
