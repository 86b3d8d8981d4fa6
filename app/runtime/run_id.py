"""The id that separates one run's orders from another's in the order store."""

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

from app.config import Settings
from app.runtime.container import ipc_owner
from app.runtime.lifecycle import FatalError


def new_run_id() -> str:
    """A new id: UTC time and four random hexadecimal digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def resolve_run_id(settings: Settings) -> str:
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
        draft = path.with_suffix(".new")
        name = new_run_id()
        with draft.open("w") as file:
            file.write(f"{name} {deployment}")
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except OSError as error:
        raise FatalError(
            f"RUN_DIR={settings.run_dir}: {error.strerror}; make it writable, or set RUN_ID"
        ) from error
    return name
