"""A sweep in a folder of its own, for each test."""

from pathlib import Path

import pytest

from tests.app.backtest.sweep.sweeping import Sweeps
from tests.support.environ import default_environ


@pytest.fixture
def sweeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Sweeps:
    """Settings at their defaults, and a folder of its own."""
    for name, value in default_environ().items():
        monkeypatch.setenv(name, value)
    # It would keep the captured output of this test, for all later tests of this process.
    monkeypatch.setattr("app.backtest.sweep.command.setup_logging", lambda *_: None)
    return Sweeps(tmp_path / "sweep", capsys)
