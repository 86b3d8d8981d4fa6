"""The id that separates one run's orders from another's in the order store."""

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from app.config.settings import Settings
from app.runtime.container import ipc_owner
from app.runtime.lifecycle import FatalError

RUN_FILE: Final = "run_number"
RANDOM_BITS: Final = 16
RANDOM: Final = (1 << RANDOM_BITS) - 1


def new_run_id() -> str:
    """A new id: UTC time and four random hexadecimal digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def resolve_run_id(settings: Settings, run: int = 0) -> str:
    """The id of the run of which the stack's shared memory says ``run``; 0 is the first.

    The market may jump back: then the stack begins another run, whose id is that of the first, the
    number, and four random digits.  ``RUN_DIR`` keeps it for the time after the shared memory.
    """
    run = run or _kept_run(settings)
    name = _first_run_id(settings)
    return f"{name}.{number_of(run)}-{run & RANDOM:04x}" if run else name


def number_of(run: int) -> int:
    """1 for the first run, and one more for each jump back."""
    return (run >> RANDOM_BITS) + 1


def next_run(settings: Settings, run: int) -> int:
    """The run after ``run``, kept in ``RUN_DIR`` from now on.

    Raises:
        OSError: the folder cannot be written.
    """
    found = number_of(run or _kept_run(settings)) << RANDOM_BITS | secrets.randbits(RANDOM_BITS)
    if settings.run_dir and (deployment := ipc_owner.deployment()):
        _write(Path(settings.run_dir) / RUN_FILE, f"{found} {deployment}")
    return found


def _kept_run(settings: Settings) -> int:
    """The run that ``RUN_DIR`` knows of; 0 if there was no other yet, or in another deployment.

    Outside containers the shared memory lasts as long as the stack, so there is no need to.
    """
    here = ipc_owner.deployment()
    if not settings.run_dir or not here:
        return 0
    try:
        text = (Path(settings.run_dir) / RUN_FILE).read_text()
    except OSError:
        return 0
    run, _, deployment = text.strip().partition(" ")
    return int(run) if run.isdigit() and deployment == here else 0


def _write(path: Path, text: str) -> None:
    """Replace a file, so that after a crash it has the old text or the new one."""
    draft = path.with_suffix(".new")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def _first_run_id(settings: Settings) -> str:
    """``RUN_ID`` if set; else the id stored in ``RUN_DIR``, generated at the first start.

    The file holds the id and the deployment that it belongs to: the name of the container that
    owns /dev/shm.  That container survives a crash, a restart and ``docker compose stop``, and is a
    new one after ``docker compose down``.  So a process that was killed continues its run, and a
    new deployment starts with flat positions, although the folder is a volume that ``down`` keeps.
    Outside containers the id lasts as long as the folder.  Without ``RUN_DIR`` the id is empty, and
    all such runs share their orders.

    Raises:
        FatalError: the folder cannot be read or written.
    """
    if settings.run_id or not settings.run_dir:
        return settings.run_id
    path = Path(settings.run_dir) / "run_id"
    try:
        deployment = ipc_owner.deployment()
        name, _, stored_for = (
            path.read_text().strip().partition(" ") if path.exists() else ("",) * 3
        )
        if name and stored_for == deployment:
            return name
        name = new_run_id()
        _write(path, f"{name} {deployment}")
    except OSError as error:
        raise FatalError(
            f"RUN_DIR={settings.run_dir}: {error.strerror}; make it writable, or set RUN_ID"
        ) from error
    return name
