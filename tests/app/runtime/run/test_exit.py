"""Exit codes mean something to supervisors, so nobody else chooses them."""

import subprocess
import sys

import pytest

from tests.support.environ import default_environ
from tests.support.paths import ROOT

CODE = """
import sys
from app.runtime.process import run_process

def body(settings, metrics, stop):
    sys.exit({said!r})

raise SystemExit(run_process("orderbook", body))
"""


@pytest.mark.parametrize("said", [75, 0, None, "done"])
def test_a_strategy_that_calls_exit_is_a_fault(name: str, said: object) -> None:
    """75 is the code of a process that is to be started again at once, without end."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(said=said)],
        cwd=ROOT,
        env={**default_environ(), "SHM_METRICS": f"{name}_metrics"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "SystemExit: " in done.stderr + done.stdout
