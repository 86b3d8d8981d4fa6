"""Fixtures of tests in several folders: segment names, child processes, containers."""

import fcntl
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog

from tests.support.children import Spawn, segment_name, spawner
from tests.support.compose_stack import ComposeStack
from tests.support.paths import ROOT

# An example's duration says what else the machine does.
hypothesis.settings.register_profile("stack", deadline=None)
hypothesis.settings.load_profile("stack")

# A shell starts what is to run in the background with SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_log_outlives_its_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that a test calls configures the log of this process; its stream ends then."""
    configure = structlog.configure
    calls: list[dict[str, Any]] = []

    def noted(**how: Any) -> None:
        calls.append(how)
        configure(**{**how, "cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", noted)
    yield
    if calls:
        structlog.reset_defaults()


@pytest.fixture
def name() -> Iterator[str]:
    """A segment name of this test only."""
    yield from segment_name()


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts child processes that do not outlive the test."""
    yield from spawner()


def _engine_problem() -> str:
    """Why container tests cannot run here; empty if they can."""
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        except (FileNotFoundError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["no answer"])[-1]
    return ""


@pytest.fixture(scope="session")
def images() -> None:
    """A running engine and up-to-date images; else skip, or with REQUIRE_CONTAINERS=1 fail."""
    problem = _engine_problem()
    if problem:
        reason = f"no Docker engine with Compose ({problem}); make engine"
        if os.environ.get("REQUIRE_CONTAINERS"):
            pytest.fail(reason)
        pytest.skip(reason)
    # One build at a time: each pytest-xdist worker has a session of its own.
    with (Path(tempfile.gettempdir()) / "trading-test-images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            ["make", "images"], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
        )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.fixture
def compose_stack(images: None) -> Iterator[Callable[..., ComposeStack]]:
    """Makes projects (``compose_stack(REPLAY="once")``); removes them at the end of the test."""
    made: list[ComposeStack] = []

    def make(**settings: str) -> ComposeStack:
        made.append(ComposeStack(**settings))
        return made[-1]

    yield make
    for stack in made:
        stack.destroy()
