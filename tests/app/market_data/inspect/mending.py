"""Follows what a refusal suggests, as a user would who does nothing but what it says."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from app.config.settings import Settings, SettingsError
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import columns_of, load_files, load_sentiments
from app.market_data.tick_table import Rows

STEPS_MAX = 3
DAY = "2025-10-01"

VALUE = r"('[^']*'|[^\s,;:]+)"
GIVEN = re.compile(rf"\b([A-Z]+(?:_[A-Z]+)+)={VALUE}")
UNIT = re.compile(r"set ([A-Z_]+) to its unit \((.*?)\)")
ITS_NAME = re.compile(r"set ([A-Z_]+) to its name")
UNSET = re.compile(r"\bunset ([A-Z_]+)")

Environ = dict[str, str]


class Mended(NamedTuple):
    """What was refused on the way, and the rows in the end."""

    messages: list[str]
    added: Environ
    rows: Rows


def rows_of(environ: Environ, sentiments: bool) -> Rows:
    """Load the prices, or the sentiments beside them.

    Raises:
        DataError, SettingsError: the refusal.
    """
    settings = Settings.from_environ(environ)
    columns = columns_of(settings)
    if sentiments:
        return load_sentiments(Path(settings.sentiment_path), columns)
    return load_files(settings.data_path, columns)


def ways(environ: Environ, wanted: bytes, sentiments: bool) -> tuple[Mended | None, list[str]]:
    """The shortest way of suggestions after which the first row is ``wanted``; and all messages."""
    waiting: list[tuple[Environ, list[str]]] = [({}, [])]
    heard: list[str] = []
    while waiting:
        added, messages = waiting.pop(0)
        try:
            rows = rows_of(environ | added, sentiments)
        except (DataError, SettingsError) as error:
            message = str(error)
            heard.append(message)
            if len(messages) < STEPS_MAX:
                waiting += [(added | new, [*messages, message]) for new in suggestions(message)]
            continue
        if rows.frame(0).startswith(wanted):
            return Mended(messages, added, rows), heard
    return None, heard


def suggestions(message: str) -> Iterator[Environ]:
    """The settings to try, one choice after the other."""
    first, *rows = message.splitlines()
    lines = [first, rows[0]] if rows else [first]
    for line in reversed(lines):  # What is said of a row is closer to the fault.
        yield from _of_line(line)


def _of_line(line: str) -> Iterator[Environ]:
    found = re.search(r"\b(un)?set [A-Z]+_[A-Z]+.*", line)
    text = found[0] if found else line.partition("; ")[2]
    given: dict[str, list[str]] = {}
    for name, value in GIVEN.findall(text):
        value = value.replace("YYYY-MM-DD", DAY)
        given.setdefault(name, []).append(shlex.split(value)[0])
    header = re.search(r"the header has (.*?): set ", line)
    for setting in ITS_NAME.findall(text):
        assert header, line
        given.setdefault(setting, []).extend(header[1].split(", "))
    if "set DATA_SYMBOL, if" in text:
        given["DATA_SYMBOL"] = ["A"]
    for setting, units in UNIT.findall(text):
        for unit in re.findall(r"\w+", units):
            if unit != "or":
                yield {setting: unit}
        for other, values in given.items():
            yield {other: values[0]}
        given = {}
    choices: list[Environ] = [{}]
    for name, values in given.items():
        choices = [{**chosen, name: value} for chosen in choices for value in values]
    yield from (chosen for chosen in choices if chosen)
    for setting in UNSET.findall(line):
        yield {setting: ""}
