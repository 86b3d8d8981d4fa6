"""Which DATA_PATH is a live feed, and where its recording is."""

import re
from pathlib import Path
from typing import Final

from app.config.settings import Settings
from app.market_data.live.tick_log import SUFFIX
from app.market_data.sources.errors import DataError
from app.runtime.run.run_id import resolve_run_id

UNNAMED: Final = "live"
_NUMBER: Final = re.compile(r"\.\d+-[0-9a-f]{4}$")
"""What a jump back adds to the generated name of a run: the recording stays the same."""
_URL: Final = re.compile(r"wss?://\S+")


class NoRecordingYet(DataError):
    """The gateway has not begun its recording, or begins none."""


def url_of(data_path: str) -> str:
    """The address in DATA_PATH; empty if it names files.

    Compose puts a folder before the DATA_PATH of who computes the run again.
    """
    found = _URL.search(data_path)
    return found[0] if found else ""


def recording_of(settings: Settings, suffix: str = SUFFIX) -> Path:
    """The recording of the run of these settings; the gateway writes it.

    Raises:
        FatalError: RUN_DIR cannot be read or written.
    """
    # A RUN_ID that the user has chosen may look like that by itself.
    run = settings.run_id or _NUMBER.sub("", resolve_run_id(settings))
    return _folder(settings) / f"{run or UNNAMED}{suffix}"


def _folder(settings: Settings) -> Path:
    return Path(settings.live_record or Path(settings.output_dir) / "live")


def find_recording(settings: Settings, suffix: str = SUFFIX) -> Path:
    """The recording of this run, or the newest one where the run has no name.

    Raises:
        NoRecordingYet: there is none.
        FatalError: as :func:`recording_of`.
    """
    path = recording_of(settings, suffix)
    if path.exists():
        return path
    folder = _folder(settings)
    found = sorted(folder.glob(f"*{suffix}"), key=lambda each: each.stat().st_mtime)
    if not found or resolve_run_id(settings):
        raise NoRecordingYet(
            f"{path}: no recording of the live feed yet; is LIVE_RECORD the gateway's?"
        )
    return found[-1]
