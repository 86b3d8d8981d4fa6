"""Packages that the four processes must not load: they would only cost memory in each."""

import subprocess
import sys

import pytest

from tests.support.paths import ROOT

COMMAND_LINE_ONLY = {"click", "rich", "pandas", "matplotlib"}


@pytest.mark.parametrize("service", ["gateway", "orderbook", "strategy", "order_manager"])
def test_a_process_loads_nothing_of_the_command_line(service: str) -> None:
    code = f"import sys, app.{service}.process; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "structlog" in loaded
    assert not loaded & COMMAND_LINE_ONLY
    assert ("apsw" in loaded) == (service == "order_manager")


def test_rich_can_be_loaded_after_the_log() -> None:
    code = "import app.runtime.log, rich.console; print(rich.console.Console)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
