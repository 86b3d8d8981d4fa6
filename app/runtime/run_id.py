"""The id that separates one run's orders from another's in the order store."""

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

from app.config import Settings
from app.runtime.lifecycle import FatalError


def new_run_id() -> str:
    """A new id: UTC time and four random hexadecimal digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def resolve_run_id(settings: Settings) -> str:
    """``RUN_ID`` if set; else the id stored in ``RUN_DIR``, generated at the first start.

    ``RUN_DIR`` has the lifetime of a deployment.  In Compose it is an anonymous volume: it survives
    a crash or a restart of the container and is new after ``docker compose down``.  So a process
    that was killed continues its run, and a new deployment starts with flat positions.  Without
    ``RUN_DIR`` the id is empty, and all such runs share their orders.

    Raises:
        FatalError: the folder cannot be read or written.
    """
    if settings.run_id or not settings.run_dir:
        return settings.run_id
    path = Path(settings.run_dir) / "run_id"
    try:
        if path.exists() and (name := path.read_text().strip()):
            return name
        draft = path.with_suffix(".new")
        name = new_run_id()
        with draft.open("w") as file:
            file.write(name)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except OSError as error:
        raise FatalError(
            f"RUN_DIR={settings.run_dir}: {error.strerror}; make it writable, or set RUN_ID"
        ) from error
    return name
