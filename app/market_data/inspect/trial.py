"""Loads a file as its settings say, then with what its refusals suggest, until it loads."""

import re
import shlex
from dataclasses import dataclass, field
from typing import Final

from app.config.settings import Settings, SettingsError
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import columns_of, load_files
from app.market_data.sources.source import ReadProgress
from app.market_data.tick_table import Rows

TRIALS_MAX: Final = 8
_SETTING: Final = re.compile(r"\b([A-Z]+(?:_[A-Z]+)+)=('[^']*'|[^\s,;:]+)")
_PLACEHOLDER: Final = "YYYY-MM-DD"


@dataclass(slots=True)
class Trial:
    """How loading went.

    ``rows``: the rows, if it loaded in the end.  ``settings``: those it loaded with, or the last
    that were tried.  ``added``: which of them are not the user's, in the order in which they were
    found.  ``refusals``: the message of each attempt that failed.
    """

    settings: Settings
    rows: Rows | None = None
    added: dict[str, str] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)


def try_to_load(settings: Settings, progress: ReadProgress | None = None) -> Trial:
    """Load what ``DATA_PATH`` names; never raises because of the data."""
    trial = Trial(settings)
    for _ in range(TRIALS_MAX):
        try:
            trial.rows = load_files(trial.settings.data_path, columns_of(trial.settings), progress)
            return trial
        except DataError as error:
            trial.refusals.append(str(error))
            found = suggested(str(error))
        new = {name: value for name, value in found.items() if trial.added.get(name) != value}
        if not new:
            return trial
        try:
            trial.settings = Settings.from_environ(trial.settings.to_environ() | new)
        except SettingsError as error:
            trial.refusals.append(str(error))
            return trial
        trial.added |= new
    return trial


def suggested(message: str) -> dict[str, str]:
    """The settings that a refusal suggests; none where it leaves a choice to the user.

    The first line is about the whole file, the others are about a row each.
    """
    first, *others = [_settings_of(line) for line in message.splitlines()]
    if first:
        return {name: values[0] for name, values in first.items() if len(values) == 1}
    found: dict[str, set[str]] = {}
    for line in others:
        for name, values in line.items():
            found[name] = found.get(name, set(values)) & set(values)
    return {name: values.pop() for name, values in found.items() if len(values) == 1}


def _settings_of(line: str) -> dict[str, list[str]]:
    """Setting -> the values that a line suggests for it, after ``set`` or as ``SORT_ROWS=true``."""
    _, _, remedies = line.partition(": set ")
    if not remedies:
        remedies = "; ".join(re.findall(r"(?:SKIP_BAD|SORT)_ROWS=true", line))
    found: dict[str, list[str]] = {}
    for name, value in _SETTING.findall(remedies):
        if _PLACEHOLDER not in value:
            found.setdefault(name, []).append(shlex.split(value)[0])
    return found
