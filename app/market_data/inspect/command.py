"""``python -m app data``: look at a data file, and write it in the plain form."""

import re
import shlex
import sys
from pathlib import Path

import click
import msgspec

from app.config.loading import settings_or_exit
from app.config.settings import Settings
from app.market_data.inspect.advice import condition, shell_line
from app.market_data.inspect.convert import write_as_parquet, write_plain
from app.market_data.inspect.record import is_recording, record, write_recording
from app.market_data.inspect.summary import lines, summarize
from app.market_data.inspect.trial import Trial, try_to_load
from app.market_data.live.places import url_of
from app.market_data.sources.errors import DataError
from app.market_data.sources.files import parts_of
from app.market_data.sources.loader import columns_of, describe, load_files
from app.market_data.sources.progress import LoadProgress

LABEL_WIDTH = 12
LINES_SHOWN = 3
"""Rows shown of each refusal."""


@click.group()
def command() -> None:
    """FILE is as DATA_PATH: a file, several, a folder or a pattern."""


def _settings(file: str) -> Settings:
    return msgspec.structs.replace(settings_or_exit("data"), data_path=file)


@command.command()
@click.argument("file")
def check(file: str) -> int:
    """Say what FILE holds, and which settings load it.

    FILE is as DATA_PATH: a file, several with commas between them, a folder or a pattern.

    Exit code 0: it loads as it is, 1: not at all, or only with the settings that are shown.
    """
    if url_of(file):
        raise click.UsageError(f"{file}: an address, no file: data record makes a file of it")
    settings = _settings(file)
    with LoadProgress() as progress:
        trial = try_to_load(settings, progress)
    for refusal in trial.refusals:
        first, *others = refusal.splitlines()
        print("\n".join([f"refused: {first}", *others[:LINES_SHOWN]]))
    if trial.rows is None:
        names_one = re.search(r"\bset [A-Z]+_[A-Z]+", trial.refusals[-1])
        said = "choose a setting that the last refusal names" if names_one else "as it says"
        _show([("loads", f"no: {said}")])
        return 1
    found = _format(trial)
    _show([*found, *lines(summarize(trial.rows))])
    if trial.rows.skipped:
        _show([("wrong rows", f"{trial.rows.skipped:,} left out")])
    assumed = condition(trial, dict(found).get("columns", ""))
    said = f"with these settings{assumed}:" if trial.added else "yes, as it is"
    _show([("loads", said)])
    print(shell_line(trial))
    return 1 if trial.added else 0


def _format(trial: Trial) -> list[tuple[str, str]]:
    """What the first file is."""
    paths = parts_of(trial.settings.data_path)
    found = [("files", f"{len(paths):,}, of which the first is {paths[0]}")] if paths[1:] else []
    return [*found, *describe(paths[0], columns_of(trial.settings))]


def _show(facts: list[tuple[str, str]]) -> None:
    for label, text in facts:
        print(f"{label:{LABEL_WIDTH}} {text}")


@command.command()
@click.argument("file")
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="overwrite OUT")
def convert(file: str, out: Path, force: bool) -> int:
    """Write FILE so that it loads without settings.

    OUT is a .csv, .csv.gz or .parquet file.  Of the recording of a live feed, Parquet has all that
    is recorded: quantity, trade id, the exchange's and the receive time.

    Exit code 0: written, 1: FILE does not load, or OUT cannot be written, 2: wrong usage.
    """
    if not out.name.endswith((".csv", ".csv.gz", ".parquet")):
        raise click.UsageError(f"OUT must end in .csv, .csv.gz or .parquet, not {out.name}")
    if out.exists() and not force:
        raise click.UsageError(f"{out} exists; --force overwrites it")
    settings = _settings(file)
    try:
        with LoadProgress() as progress:
            rows = load_files(file, columns_of(settings), progress)
        if out.suffix != ".parquet":
            write_plain(rows, out)
        elif is_recording(Path(file)):
            write_recording(Path(file), out)
        else:
            write_as_parquet(rows, out)
    except DataError as error:
        print(f"data: {error}", file=sys.stderr)
        print(f"data: python -m app data check {shlex.quote(file)} helps", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"data: {out}: {error.strerror or error}", file=sys.stderr)
        return 1
    skipped = f", {rows.skipped:,} malformed rows left out" if rows.skipped else ""
    print(f"{out}: {len(rows):,} ticks of {len(rows.symbols):,} symbols{skipped}")
    return 0


command.add_command(record)
