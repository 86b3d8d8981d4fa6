"""The environment of the processes that tests start."""

import os

from app.config import Settings


def default_environ() -> dict[str, str]:
    """Ours, with every setting of the processes at its default, whatever the shell or .env say.

    ``make chaos SEED=7`` is enough to put a setting into the shell: Make exports its variables.
    """
    return {**os.environ, **Settings().to_environ()}
