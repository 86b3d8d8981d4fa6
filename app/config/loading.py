"""Reads the settings of a process, or says what is wrong with them and ends it."""

import json
import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from app.config.settings import Settings, SettingsError

EXIT_SETTINGS = 2
"""Exit code of a process whose settings are invalid."""
GROUPS: Final = ("PAPER_", "RISK_", "EXPECT_", "LIVE_")
"""What the names of settings for costs, limits, expectations and live prices begin with."""


def load_settings(
    environ: Mapping[str, str] | None = None, env_file: str | Path = ".env"
) -> Settings:
    """Read the settings: ``environ`` first, then ``env_file``, then the defaults.

    Raises:
        SettingsError: lists every invalid value and the reason.
    """
    from_file = {k: v for k, v in dotenv_values(env_file).items() if v is not None}
    return Settings.from_environ({**from_file, **(os.environ if environ is None else environ)})


def compose_value(name: str, env_file: str | Path = ".env") -> str:
    """A value that only docker-compose.yml uses, from where Compose takes it; empty if unset."""
    return (os.environ.get(name) or dotenv_values(env_file).get(name) or "").strip()


def unknown_settings(env_file: str | Path = ".env") -> list[tuple[str, str]]:
    """Names that no setting has, although they begin like one, each with the nearest setting.

    Only of those groups whose names nothing else on a host begins with: a misspelled fee, limit or
    expectation would silently not apply.
    """
    known = [name.upper() for name in Settings.__struct_fields__]
    try:
        text = Path(env_file).read_text(errors="replace")
    except OSError:
        text = ""
    names = re.findall(r"^(?:export +)?([A-Z0-9_]+)=", text, re.MULTILINE)
    found = dict.fromkeys(name for name in (*names, *os.environ) if name.startswith(GROUPS))
    unknown = [name for name in found if name not in known]
    return [(name, get_close_matches(name, known, 1, 0.0)[0]) for name in unknown]


def settings_or_exit(service: str, **given: str | None) -> Settings:
    """Load the settings, or print what is wrong with them and exit with code 2.

    ``given``: setting -> its value on the command line, checked in the same way; None leaves it.
    """
    changed = {name.upper(): value for name, value in given.items() if value is not None}
    try:
        settings = load_settings()
        for name, nearest in unknown_settings():
            print(f"{service}: {name} is no setting; did you mean {nearest}?", file=sys.stderr)
        return Settings.from_environ(settings.to_environ() | changed) if changed else settings
    except SettingsError as error:
        print_settings_error(service, error)
        raise SystemExit(EXIT_SETTINGS) from None


def print_settings_error(service: str, error: SettingsError, env_file: str | Path = ".env") -> None:
    """Print it in the form that LOG_FORMAT asks for, although the settings are not valid."""
    form = os.environ.get("LOG_FORMAT") or dotenv_values(env_file).get("LOG_FORMAT") or "text"
    text = f"{service}: invalid settings:\n{error}"
    if form.strip() == "json":
        now = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
        head = {"ts": f"{now}Z", "level": "error", "service": service}
        reason = "; ".join(line.strip() for line in str(error).splitlines())
        end = {"error": str(error), "reason": reason, "exit_code": EXIT_SETTINGS}
        text = json.dumps(head | {"event": "invalid_settings"} | end)
        # Where the log turns what is printed into JSON, this line is JSON already.
        print(text, file=getattr(sys.stderr, "stream", sys.stderr), flush=True)
        return
    print(text, file=sys.stderr, flush=True)
