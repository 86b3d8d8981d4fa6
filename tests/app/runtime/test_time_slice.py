"""Time slices: asked for, taken, and nobody's priority or policy touched."""

import os
import subprocess
import sys
from secrets import token_hex

import pytest

from app.runtime.placement import TIME_SLICES_NS
from app.runtime.time_slice import time_slice_ns
from app.shared_memory_utils.segment import SHM_DIRECTORY


def run(code: str, **environ: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", f"import os\nfrom app.runtime.time_slice import *\n{code}"],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def kernel_tells() -> None:
    if not time_slice_ns():
        pytest.skip("this kernel has no time slices to ask for (Linux 6.12 has)")


@pytest.mark.usefixtures("kernel_tells")
def test_a_slice_is_taken_and_the_niceness_kept() -> None:
    code = "os.nice(5); print(set_time_slice(300_000), time_slice_ns(), os.nice(0))"
    assert run(code) == "True 300000 5"


def test_another_policy_is_kept() -> None:
    code = (
        "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))\n"
        "print(set_time_slice(300_000), os.sched_getscheduler(0) == os.SCHED_BATCH)"
    )
    assert run(code) == "False True"


def test_another_machine_is_left_alone() -> None:
    code = (
        "import platform; platform.machine = lambda: 'vax'; before = time_slice_ns()\n"
        "print(before, set_time_slice(300_000))"
    )
    assert run(code) == "0 False"


@pytest.mark.usefixtures("kernel_tells")
@pytest.mark.parametrize("service", ["gateway", "orderbook", "strategy", "order_manager"])
def test_each_process_asks_for_its_slice(service: str) -> None:
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


@pytest.mark.usefixtures("kernel_tells")
def test_who_is_woken_by_a_busy_process_has_the_shorter_slice() -> None:
    """The gateway and the order manager have the system's own."""
    assert TIME_SLICES_NS["strategy"] < TIME_SLICES_NS["orderbook"] < time_slice_ns()
