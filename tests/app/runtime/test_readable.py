"""What the error says when a process may not read a file, as in a container of another uid."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.runtime.readable import why_unreadable
from tests.support.environ import default_environ
from tests.support.paths import ROOT

UID = 10001
OPEN_DATA = (
    "import os, sys\n"
    "from app.config.loading import load_settings\n"
    "from app.market_data.sources.errors import DataError\n"
    "from app.market_data.sources.loader import open_feed\n"
    "os.setgid({uid}); os.setuid({uid})\n"
    "try:\n    open_feed(load_settings(env_file=''))\n"
    "except DataError as error:\n    sys.exit(str(error))\n"
)


@pytest.fixture
def data() -> Iterator[Path]:
    """A data file in a folder that every user may enter; pytest's own belong to one user."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to run as another user")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "ticks.csv"
        path.write_text("timestamp,symbol,price\n2025-10-01 09:30:00,A,1\n")
        yield path


def open_as_another_user(path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", OPEN_DATA.format(uid=UID)],
        cwd=ROOT,
        env=default_environ() | {"DATA_PATH": str(path)},
        capture_output=True,
        text=True,
    )
    return done.stderr


def test_a_data_file_of_another_user(data: Path) -> None:
    data.chmod(0o600)
    text = open_as_another_user(data)
    assert text.startswith(
        f"{data}: uid {UID}, gid {UID} of this process may not read it: mode 0600,"
    )
    assert f"owner uid 0, gid 0; make it readable for this process: chown {UID} FILE, or" in text
    data.chmod(0o644)
    assert open_as_another_user(data) == ""


def test_a_folder_of_another_user(data: Path) -> None:
    data.parent.chmod(0o700)
    expected = f"{data}: uid {UID} may not enter a folder above it; chmod o+x that folder, or"
    assert open_as_another_user(data).startswith(expected)


def test_other_errors_keep_their_reason() -> None:
    assert why_unreadable("x", FileNotFoundError(2, "No such file or directory")) == (
        "No such file or directory"
    )
    assert why_unreadable("x", OSError("odd")) == "odd"
