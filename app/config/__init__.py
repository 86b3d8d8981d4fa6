"""Settings of every process: read and checked once, at the start.

A setting is one field of :class:`Settings`; its environment variable is the field's name in upper
case.  Its value comes from the process environment, else from the ``.env`` file, else from the
default here.  All invalid values are reported in one message before anything starts.
"""

from app.config.kinds import PACE, is_loopback, is_zero
from app.config.loading import (
    EXIT_SETTINGS,
    compose_value,
    load_settings,
    print_settings_error,
    settings_or_exit,
)
from app.config.settings import Settings, SettingsError

__all__ = [
    "EXIT_SETTINGS",
    "PACE",
    "Settings",
    "SettingsError",
    "compose_value",
    "is_loopback",
    "is_zero",
    "load_settings",
    "print_settings_error",
    "settings_or_exit",
]
