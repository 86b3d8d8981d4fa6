"""Time slices: set for each process, without a change of its priority or policy."""

import os
import subprocess
import sys
from secrets import token_hex

import pytest

from app.runtime.placement import TIME_SLICES_NS
from app.shared_memory_utils.segment import SHM_DIRECTORY
from tests.support.kernel.time_slice import time_slice_ns
from tests.support.paths import ROOT


def run(code: str, **environ: str) -> str:
    """Run ``code`` in a new process and return what it prints."""
    imports = (
        "import os\n"
        "from app.runtime.placement import set_time_slice\n"
        "from tests.support.kernel.time_slice import time_slice_ns\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", imports + code],
        env={**os.environ, **environ},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def has_time_slices() -> None:
    if not time_slice_ns():
        pytest.skip("this kernel has no settable time slices (Linux 6.12 and later have)")


@pytest.mark.usefixtures("has_time_slices")
def test_a_slice_is_set_and_the_niceness_stays() -> None:
    code = "os.nice(5); print(set_time_slice(300_000), time_slice_ns(), os.nice(0))"
    assert run(code) == "True 300000 5"


def test_another_scheduling_policy_stays() -> None:
    code = (
        "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))\n"
        "print(set_time_slice(300_000), os.sched_getscheduler(0) == os.SCHED_BATCH)"
    )
    assert run(code) == "False True"


def test_an_unknown_architecture_changes_nothing() -> None:
    code = (
        "import platform; platform.machine = lambda: 'vax'; before = time_slice_ns()\n"
        "print(before, set_time_slice(300_000))"
    )
    assert run(code) == "0 False"


@pytest.mark.usefixtures("has_time_slices")
@pytest.mark.parametrize("service", ["gateway", "orderbook", "strategy", "order_manager"])
def test_each_process_sets_its_slice(service: str) -> None:
    segment = f"test_{os.getpid()}_{token_hex(4)}"
    code = (
        "from app.runtime.process import run_process\n"
        f"run_process({service!r}, lambda *_: print(time_slice_ns()) or 0)"
    )
    try:
        found = int(run(code, SHM_METRICS=segment))
    finally:
        (SHM_DIRECTORY / segment).unlink(missing_ok=True)
    assert found == TIME_SLICES_NS.get(service, time_slice_ns())


@pytest.mark.usefixtures("has_time_slices")
def test_a_woken_process_has_a_shorter_slice_than_the_process_that_wakes_it() -> None:
    """The gateway and the order manager keep the system's default."""
    assert TIME_SLICES_NS["strategy"] < TIME_SLICES_NS["orderbook"] < time_slice_ns()
