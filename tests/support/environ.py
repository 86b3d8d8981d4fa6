"""The environment of processes that tests start."""

import os

from app.config.settings import Settings


def default_environ() -> dict[str, str]:
    """This process's environment, every setting at its default whatever the shell or .env says.

    Even ``make chaos SEED=7`` sets one: Make exports its command-line variables.  No dashboard: its
    port is the same for all.
    """
    # The system chooses the control port: few tests need it, and they name one.
    return {**os.environ, **Settings(control_port=0, dashboard_port=0).to_environ()}
