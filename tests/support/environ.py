"""The environment of processes that tests start."""

import os

from app.config import Settings


def default_environ() -> dict[str, str]:
    """This process's environment, every setting at its default whatever the shell or .env says.

    Even ``make chaos SEED=7`` sets one: Make exports its command-line variables.  No dashboard: its
    port is the same for all.
    """
    return {**os.environ, **Settings().to_environ(), "DASHBOARD_PORT": "0"}
