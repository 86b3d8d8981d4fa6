"""``STRATEGY_REQUIREMENTS`` in the images of who runs the user's strategy."""

import json
import os
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.compose_stack import ComposeStack
from tests.support.paths import ROOT

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.usefixtures("images")]

RUN_STRATEGIES = {"strategy", "order_manager", "dashboard"}
FILE = Path("data/strategies/.test_requirements.txt")
"""Below the project, where the builder sees it."""
PACKAGE, IMPORT = "mako", "import mako.template, markupsafe; print(mako.__file__)"
"""A package, and what shows that also the package that it needs is there."""


def base_image() -> str:
    """As Compose takes it."""
    done = subprocess.run(
        ["docker", "compose", "config", "--format", "json"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    arguments = json.loads(done.stdout)["services"]["strategy"]["build"]["args"]
    return str(arguments["PYTHON_IMAGE"])


@pytest.fixture
def build() -> Iterator[Callable[[str, str], subprocess.CompletedProcess[str]]]:
    """Builds a target with a file of requirements, under a name that is removed at the end."""
    made: list[str] = []

    def build_one(target: str, text: str) -> subprocess.CompletedProcess[str]:
        (ROOT / FILE).write_text(text)
        made.append(f"trading-test-{secrets.token_hex(4)}")
        command = ["docker", "build", "-q", "-f", "images/Dockerfile", "--target", target]
        command += ["--build-arg", f"PYTHON_IMAGE={base_image()}", "-t", made[-1]]
        command += ["--build-arg", f"STRATEGY_REQUIREMENTS={FILE}", "."]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)

    yield build_one
    (ROOT / FILE).unlink(missing_ok=True)
    for image in made:
        subprocess.run(["docker", "rmi", "-f", image], capture_output=True, check=False)


def python_in(image: str, code: str) -> subprocess.CompletedProcess[str]:
    command = ["docker", "run", "--rm", "--network", "none", image, "python3", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.timeout(900)
def test_the_packages_are_where_a_strategy_runs_and_nowhere_else(
    build: Callable[..., object],
) -> None:
    for target in sorted(RUN_STRATEGIES | {"gateway"}):
        made = build(target, f"{PACKAGE}\n")
        assert isinstance(made, subprocess.CompletedProcess)
        assert made.returncode == 0, made.stdout + made.stderr
        done = python_in(made.stdout.strip(), IMPORT)
        assert (done.returncode == 0) == (target in RUN_STRATEGIES), done.stderr
        if target == "strategy":
            assert done.stdout.startswith("/srv/site/mako/")
            assert python_in(made.stdout.strip(), "import app.strategy.process").returncode == 0
    forged = build("strategy", f"{PACKAGE}==1.3.10 --hash=sha256:{'0' * 64}\n")
    assert isinstance(forged, subprocess.CompletedProcess)
    assert forged.returncode != 0
    assert "DO NOT MATCH THE HASHES" in forged.stdout + forged.stderr


def test_compose_gives_the_file_to_each_image(
    compose_stack: Callable[..., ComposeStack],
) -> None:
    stack = compose_stack(STRATEGY_REQUIREMENTS="data/strategies/mine.txt")
    services = json.loads(stack.compose("config", "--format", "json").stdout)["services"]
    for service in RUN_STRATEGIES:
        assert services[service]["build"]["args"]["STRATEGY_REQUIREMENTS"] == (
            "data/strategies/mine.txt"
        )


def test_each_target_that_runs_a_strategy_takes_them() -> None:
    """Those are the images of services that have the folder of strategies."""
    text = (ROOT / "images/Dockerfile").read_text()
    taking = set(re.findall(r"FROM process AS (\w+)\nCOPY --from=strategy_site", text))
    services: list[dict[str, Any]] = []
    for file in ("docker-compose.yml", "images/dask/docker-compose.yml"):
        command = ["docker", "compose", "--project-directory", ".", "-f", file, "--profile", "*"]
        done = subprocess.run(
            [*command, "config", "--format", "json"],
            cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True,
        )  # fmt: skip
        services += json.loads(done.stdout)["services"].values()
    mounting = {
        service["image"]
        for service in services
        if any(each["target"] == "/srv/data/strategies" for each in service.get("volumes") or ())
    }
    assert {f"trading-{name.replace('_', '-')}" for name in taking} == mounting
