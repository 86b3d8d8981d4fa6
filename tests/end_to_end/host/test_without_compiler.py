"""A machine without a compiler runs the stack as plain Python, says so, and trades the same."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.backtest import replay as backtest
from app.backtest.outcome import Outcome, first_difference, of_backtest
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from tests.chaos.host import PROCESSES, HostStack
from tests.support.environ import default_environ
from tests.support.kernel.helpers import PLAIN_FIRST, needs_compiled
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

TICKS = 6000


def copy_of_program(folder: Path, *patterns: str) -> Path:
    """A copy of the program, without files of these patterns."""
    ignored = shutil.ignore_patterns("__pycache__", "*.c", *patterns)
    shutil.copytree(ROOT / "app", folder / "app", ignore=ignored)
    shutil.copy(ROOT / ".env", folder)
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as it is where nothing could be compiled."""
    return copy_of_program(tmp_path_factory.mktemp("plain"), "*.so")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first ticks of the sample."""
    path = tmp_path_factory.mktemp("data") / "ticks.csv"
    with (ROOT / "data/market_data.csv").open() as sample, path.open("w") as some:
        some.writelines(line for line, _ in zip(sample, range(TICKS + 1), strict=False))
    return path


def expected(data: Path) -> Outcome:
    """The outcome according to the backtest of this process, which is compiled if it can be."""
    settings = Settings(data_path=str(data), replay="once")
    return of_backtest(backtest.run(settings, open_feed(settings)))


def services_that_say_it(log: str) -> list[str]:
    return sorted(re.findall(r" WARNING (\w+) not_compiled modules=app\.kernel\._kernel", log))


def test_four_plain_processes_trade_the_same(tmp_path: Path, plain: Path, data: Path) -> None:
    with HostStack(tmp_path, root=plain, data_path=data, pace="max") as stack:
        assert stack.wait(100) == 0, stack.tail(60)
        assert services_that_say_it(stack.log_path.read_text()) == sorted(PROCESSES)
        ours = stack.outcome()
    theirs = expected(data)
    assert len(theirs.orders) > 100
    assert first_difference(ours, theirs) is None


@needs_compiled
@pytest.mark.parametrize(
    "slow", [("orderbook",), ("strategy", "order_manager"), ("gateway", "strategy")]
)
def test_plain_and_compiled_processes_share_memory(
    tmp_path: Path, data: Path, slow: tuple[str, ...]
) -> None:
    """In containers of two builds, say: ticks, reader slots and wake-ups cross between them."""
    root = copy_of_program(tmp_path / "program")
    for service in slow:
        start = root / f"app/{service}/__init__.py"  # what it imports first
        start.write_text(PLAIN_FIRST + start.read_text())
    with HostStack(tmp_path / "out", root=root, data_path=data, pace="20000/s") as stack:
        assert stack.wait(100) == 0, stack.tail(60)
        assert services_that_say_it(stack.log_path.read_text()) == sorted(slow)
        assert first_difference(stack.outcome(), expected(data)) is None


def backtest_in(root: Path, data: Path, out: Path) -> subprocess.CompletedProcess[str]:
    options = ["--data", str(data), "--out", str(out), "--no-plot"]
    return subprocess.run(
        [sys.executable, "-m", "app", "backtest", *options],
        cwd=root,
        env=default_environ() | {"REPLAY": "once", "PAPER_FEE_BPS": "2"},
        text=True,
        capture_output=True,
        timeout=60,
        check=True,
    )


@needs_compiled
def test_a_plain_backtest_writes_the_same_file(tmp_path: Path, plain: Path, data: Path) -> None:
    fast = backtest_in(ROOT, data, tmp_path / "fast")
    slow = backtest_in(plain, data, tmp_path / "slow")
    orders = [(tmp_path / name / "orders.csv").read_bytes() for name in ("fast", "slow")]
    assert orders[0] == orders[1]
    assert orders[0].count(b"\n") > 100
    assert not fast.stderr
    assert slow.stderr.startswith("backtest: not compiled, so everything is slow: app.kernel.")
    assert "make setup" in slow.stderr
    assert slow.stderr.count("\n") == 1


def test_nothing_is_measured_without_a_compiler(plain: Path) -> None:
    code = "import sys; from tests.bench.__main__ import main; sys.exit(main(['--quick']))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=plain,
        env={**os.environ, "PYTHONPATH": f"{plain}:{ROOT}"},
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 2, found.stderr
    assert found.stderr.startswith("bench: not compiled")


# ---- make setup


class Machine:
    """A project in a folder, and a search path with some programs only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "images").mkdir()
        shutil.copy(ROOT / "images/venv.sh", folder / "images")
        shutil.copytree(ROOT / "app/kernel", folder / "app/kernel")
        self.programs = folder / "bin"
        (folder / ".venv/bin").mkdir(parents=True)
        (folder / ".venv/bin/python").symlink_to(sys.executable)
        self.stamp = folder / ".venv/kernel.stamp"
        self.stamp.touch()
        self.stale = folder / "app/kernel/_kernel.old.so"
        self.stale.touch()
        self.programs.mkdir()
        for name in ("sh", "dirname", "find", "rm", "touch", "grep", "cat"):
            (self.programs / name).symlink_to(str(shutil.which(name)))

    def add(self, name: str, script: str) -> None:
        """A program."""
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def compile(self) -> subprocess.CompletedProcess[str]:
        """What ``make setup`` runs for the kernel."""
        return subprocess.run(
            ["images/venv.sh", "kernel"],
            cwd=self.folder,
            env={"PATH": str(self.programs)},
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Without a compiler."""
    return Machine(tmp_path)


def is_plain(machine: Machine, missing: str) -> None:
    """Setup has said in one line what is missing, and left nothing compiled."""
    found = machine.compile()
    assert found.returncode == 0, found.stderr
    assert not found.stdout
    assert found.stderr.count("\n") == 1
    assert found.stderr.startswith(f"setup: {missing} is missing, so nothing is compiled")
    assert "slowly" in found.stderr
    assert "apt-get install gcc" in found.stderr
    assert not list((machine.folder / "app").rglob("*.so")), "of other sources"
    assert not machine.stamp.exists(), "the next make setup would not try again"


def test_setup_without_a_compiler(machine: Machine) -> None:
    is_plain(machine, "gcc")


@pytest.mark.parametrize("header", ["stdio.h", "linux/futex.h", "Python.h"])
def test_setup_without_headers(machine: Machine, header: str) -> None:
    machine.add("gcc", f'! grep -q "<{header}>"')
    is_plain(machine, header)


def test_setup_does_not_hide_that_a_source_is_wrong(machine: Machine) -> None:
    machine.add("gcc", "cat >/dev/null")
    (machine.folder / "pyproject.toml").write_text("not TOML\n")
    found = machine.compile()
    assert found.returncode == 1
    assert "TOML" in found.stdout
    assert not machine.stamp.exists()
