"""The folder of a sweep: its rows, the profit by day of each cell, and what the sweep was of."""

import csv
import fcntl
import io
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from app.backtest.performance.summary import Summary
from app.backtest.sweep.cell_run import FINISHED, Outcome, Status
from app.backtest.sweep.grid import Cell

ROWS_FILE: Final = "sweep.csv"
IDENTITY_FILE: Final = "sweep.json"
PROFIT_FILE: Final = "daily_profit.npy"
LOCK_FILE: Final = ".lock"

RESULTS: Final = (
    "status", "orders", "filled", "trades_hash", "profit", *Summary._fields, "took_ms", "note",
)  # fmt: skip
RESERVED: Final = {"cell", *RESULTS}

Identity = dict[str, Any]


class FolderError(Exception):
    """The folder cannot be used for this sweep; the message is one line with the mend."""


class SweepFolder(AbstractContextManager["SweepFolder"]):
    """One sweep at a time writes here; a row is added when its cell has ended.

    ``outcomes``: what is known of each cell, by number.  Those that failed are not kept: they run
    again.  ``profit``: shape ``(cells, days)``, NaN where a cell has none.

    ``cells`` may grow, up to ``count``, by default no further.

    Raises:
        FolderError: another sweep is in it, or runs in it now.
        OSError: it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        identity: Identity,
        names: Sequence[str],
        cells: Sequence[Cell],
        days: int,
        count: int | None = None,
    ) -> None:
        self.path = path
        self._names = [name if name not in RESERVED else f"param_{name}" for name in names]
        self._cells = cells
        self._count = len(cells) if count is None else count
        self.outcomes: dict[int, Outcome] = {}
        self._later: dict[int, tuple[list[str], Outcome]] = {}
        """What is known of cells that are not chosen yet, and their values."""
        self._close = ExitStack()
        with ExitStack() as undo:
            path.mkdir(parents=True, exist_ok=True)
            self._lock(undo)
            self._check(identity)
            self.profit = self._open_profit((self._count, days))
            self._load()
            self._rewrite()
            self._file = undo.enter_context((path / ROWS_FILE).open("a", encoding="utf-8"))
            self._close = undo.pop_all()

    def _lock(self, undo: ExitStack) -> None:
        file = undo.enter_context((self.path / LOCK_FILE).open("w"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderError(
                f"{self.path}: another sweep runs in it; wait for its end, or choose another --out"
            ) from None

    def _check(self, identity: Identity) -> None:
        """Write what the sweep is of; refuse if the folder has another."""
        file = self.path / IDENTITY_FILE
        mend = f"choose another --out, or remove {self.path}"
        if file.exists():
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
            except ValueError:
                raise FolderError(f"{file} is damaged: {mend}") from None
            if difference := _difference(found, identity):
                raise FolderError(
                    f"{self.path} has the cells of another sweep, {difference}: {mend}"
                )
            return
        if (self.path / ROWS_FILE).exists():
            raise FolderError(f"{self.path} has a {ROWS_FILE}, but no {IDENTITY_FILE}: {mend}")
        _replace(file, json.dumps(identity, indent=1) + "\n")

    def _open_profit(self, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
        file = self.path / PROFIT_FILE
        try:
            found: npt.NDArray[np.float64] = np.lib.format.open_memmap(file, "r+")
            if found.shape == shape and found.dtype == np.float64:
                return found
        except (FileNotFoundError, ValueError):
            pass
        made: npt.NDArray[np.float64] = np.lib.format.open_memmap(file, "w+", np.float64, shape)
        made[:] = np.nan
        return made

    def _load(self) -> None:
        """Take the rows of finished cells, as far as they are whole."""
        try:
            text = (self.path / ROWS_FILE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        whole = text[: text.rfind("\n") + 1]  # A row without its end: the sweep was killed.
        for row in csv.DictReader(io.StringIO(whole)):
            try:
                outcome = _outcome_of(row)
                values = [row[name] for name in self._names]
            except (KeyError, ValueError, TypeError):
                continue
            if outcome.number >= self._count or outcome.status not in FINISHED:
                continue
            if outcome.status is Status.OK:
                outcome.daily_profit = self.profit[outcome.number]
                if np.isnan(outcome.daily_profit).any():
                    continue
            self._later[outcome.number] = values, outcome
        self.recall(self._cells)

    def recall(self, cells: Iterable[Cell]) -> None:
        """Take what is known of cells that have been chosen meanwhile."""
        for cell in cells:
            values, outcome = self._later.pop(cell.number, ([], None))
            if outcome is not None and values == list(cell.values):
                self.outcomes[cell.number] = outcome

    @property
    def known(self) -> int:
        """How many cells have ended, those included that are not chosen yet."""
        return len(self.outcomes) + len(self._later)

    def _rewrite(self) -> None:
        rows = [self._row(outcome) for outcome in self.outcomes.values()]
        rows += [self._row(outcome, values) for values, outcome in self._later.values()]
        _replace(self.path / ROWS_FILE, _csv([["cell", *self._names, *RESULTS], *rows]))

    def add(self, outcome: Outcome) -> None:
        """Write one cell's row, its profit by day first."""
        if outcome.daily_profit is not None:
            self.profit[outcome.number] = outcome.daily_profit
        self._file.write(_csv([self._row(outcome)]))
        self._file.flush()
        self.outcomes[outcome.number] = outcome

    def _row(self, outcome: Outcome, parameters: Sequence[str] = ()) -> list[str]:
        ok = outcome.status is Status.OK
        summary = outcome.summary or [None] * len(Summary._fields)
        counts = [outcome.orders, outcome.filled, outcome.trades_hash, outcome.profit]
        values = [*(counts if ok else [None] * 4), *summary, round(outcome.took_s * 1000, 1)]
        cells = ["" if value is None else str(value) for value in values]
        parameters = parameters or self._cells[outcome.number].values
        return [str(outcome.number), *parameters, outcome.status.value, *cells, outcome.note]

    def __exit__(self, *_error: object) -> None:
        self._close.close()


def _outcome_of(row: dict[str, str]) -> Outcome:
    status = Status(row["status"])
    outcome = Outcome(int(row["cell"]), status, float(row["took_ms"]) / 1000, row["note"])
    if outcome.number < 0:
        raise ValueError(row["cell"])
    if status is Status.OK:
        outcome.orders, outcome.filled = int(row["orders"]), int(row["filled"])
        outcome.trades_hash, outcome.profit = row["trades_hash"], float(row["profit"])
        if row["total_return"]:
            found = [float(row[name]) if row[name] else None for name in Summary._fields]
            outcome.summary = Summary(*found)  # type: ignore[arg-type]
    return outcome


def _difference(found: Identity, wanted: Identity) -> str:
    """The first thing that the two differ in; empty if in none."""
    for name, value in wanted.items():
        had = found.get(name)
        if isinstance(value, dict) and isinstance(had, dict):
            if inner := _difference(had, value):
                return inner
        elif had != value:
            return f"with {name} {_short(had)}, not {_short(value)}"
    return ""


def _short(value: object) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _csv(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _replace(file: Path, text: str) -> None:
    """Write a file so that it is whole whenever it can be seen."""
    new = file.with_name(f".{file.name}.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, file)
