"""``STRATEGY_REQUIREMENTS`` on the host: make setup installs the packages that a strategy needs."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

Setup = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What setup needs of the project, with a ``.venv`` of its own, and two wheels beside it."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "images", folder / "images")
    (folder / "data/strategies").mkdir(parents=True)
    for name in ("requirements.lock", ".env", "data/strategies/requirements.txt"):
        shutil.copy(ROOT / name, folder / name)
    subprocess.run([sys.executable, "-m", "venv", folder / ".venv"], check=True)
    wheel(folder, "mine_one", requires="mine_two")
    wheel(folder, "mine_two")
    return folder


def wheel(folder: Path, name: str, requires: str = "") -> None:
    """A package with one module."""
    info = f"{name}-1.0.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "x = 1\n")
        file.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}"
        )
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture
def setup(project: Path) -> Setup:
    """Runs that part of ``make setup`` with this text as the file."""

    def run(text: str, name: str = "mine.txt") -> subprocess.CompletedProcess[str]:
        (project / "mine.txt").write_text(f"--no-index\n--find-links .\n{text}")
        return subprocess.run(
            ["images/venv.sh", "strategy"],
            cwd=project,
            env={**os.environ, "STRATEGY_REQUIREMENTS": name},
            capture_output=True,
            text=True,
            timeout=100,
        )

    return run


def hash_of(project: Path, name: str) -> str:
    return hashlib.sha256((project / f"{name}-1.0-py3-none-any.whl").read_bytes()).hexdigest()


def test_packages_and_what_they_need_are_installed_once(project: Path, setup: Setup) -> None:
    done = setup("mine_one\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "setup: packages of mine.txt\n"
    python = project / ".venv/bin/python"
    subprocess.run([python, "-c", "import mine_one, mine_two"], check=True)
    again = setup("mine_one\n")
    assert (again.returncode, again.stdout) == (0, "")


def test_hashes_are_checked_if_there_are_any(project: Path, setup: Setup) -> None:
    good = f"mine_one==1.0 --hash=sha256:{hash_of(project, 'mine_one')}\n"
    two = f"mine_two==1.0 --hash=sha256:{hash_of(project, 'mine_two')}\n"
    assert setup(good + two).returncode == 0
    subprocess.run(
        [project / ".venv/bin/python", "-m", "pip", "uninstall", "-q", "-y", "mine_two"], check=True
    )
    forged = setup(good + two.replace(two[-10:], "000000000\n"))
    assert forged.returncode == 1
    assert "DO NOT MATCH THE HASHES" in forged.stderr
    assert forged.stderr.endswith("setup: cannot install STRATEGY_REQUIREMENTS=mine.txt\n")
    # What was not installed is tried again.
    assert setup(good + two.replace(two[-10:], "000000000\n")).returncode == 1


def test_what_the_stack_has_keeps_its_version(setup: Setup) -> None:
    done = setup("numpy==1.0\n")
    assert done.returncode == 1
    assert re.search(r"numpy", done.stderr)
    assert done.stderr.endswith("setup: cannot install STRATEGY_REQUIREMENTS=mine.txt\n")


@pytest.mark.parametrize("name", ["", "data/strategies/requirements.txt"])
def test_nothing_is_done_where_no_package_is_named(setup: Setup, name: str) -> None:
    done = setup("mine_one\n", name)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["nowhere.txt", "/etc/passwd", "../project/mine.txt", "a b.txt"])
def test_a_file_that_docker_cannot_see_is_refused_with_the_mend(setup: Setup, name: str) -> None:
    done = setup("mine_one\n", name)
    assert done.returncode == 1
    assert done.stderr.startswith(f"STRATEGY_REQUIREMENTS={name}: ")
    assert "data/strategies/requirements.txt" in done.stderr
    assert done.stderr.count("\n") == 1


def test_images_are_not_built_with_a_wrong_name() -> None:
    done = subprocess.run(
        ["images/build.sh"],
        cwd=ROOT,
        env={**os.environ, "STRATEGY_REQUIREMENTS": "nowhere.txt"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("STRATEGY_REQUIREMENTS=nowhere.txt: ")
