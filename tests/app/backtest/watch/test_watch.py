"""``python -m app watch`` as a user has it: a process, a file that is saved, what it prints."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.backtest import replay as backtest
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from tests.support.environ import default_environ
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

SAMPLE = ROOT / "data" / "market_data.csv"
TICKS = 5000
WAIT_S = 60.0

STRATEGY = """
from app.strategy import Param, Strategy


class Mine(Strategy):
    every = Param(50, low=1)

    def on_tick(self, tick):
        return "BUY" if tick.seq // self.every % 2 else "SELL"
"""


class Watching:
    """The running command; ``out`` and ``err`` are all that it has printed."""

    def __init__(self, strategy: Path, *arguments: str) -> None:
        self.out = self.err = ""
        self._read = 0
        command = [sys.executable, "-m", "app", "watch", "--data", str(SAMPLE)]
        command += ["--strategy", f"{strategy}:Mine", "--ticks", str(TICKS), *arguments]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=default_environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.out += line

    def next(self, pattern: str) -> re.Match[str]:
        """Wait for the next match after the last one."""
        deadline = time.monotonic() + WAIT_S
        while not (found := re.compile(pattern).search(self.out, self._read)):
            assert self._process.poll() is None, self.out
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.out[self._read :]}"
            time.sleep(0.01)
        self._read = found.end()
        return found

    def end(self) -> int:
        """Ctrl-C."""
        os.killpg(self._process.pid, signal.SIGINT)
        return self._process.wait(WAIT_S)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(STRATEGY)
    return path


@pytest.fixture
def watch(mine: Path) -> Iterator[object]:
    """Starts the command, with the result of its first run printed."""
    started = []

    def start(*arguments: str) -> Watching:
        started.append(Watching(mine, *arguments))
        started[-1].next(r"watching .*Ctrl-C ends it\n")
        return started[-1]

    yield start
    for each in started:
        each.kill()


def save(path: Path, text: str) -> None:
    """As an editor that replaces the file."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


def hash_of(strategy: Path, params: str = "") -> str:
    settings = Settings(
        data_path=str(SAMPLE), replay="once", strategy=f"{strategy}:Mine", strategy_params=params
    )
    return backtest.run(settings, open_feed(settings), TICKS).trades_hash


def test_a_save_shows_the_new_result_beside_the_one_before(watch: object, mine: Path) -> None:
    first = hash_of(mine)
    running = watch()  # type: ignore[operator]
    assert f"trades hash {first}\n" in running.out
    save(mine, STRATEGY.replace("Param(50", "Param(70"))
    orders = running.next(r"Mine every=70: 5,000 ticks[\s\S]*?orders +(\d+) +(\d+) +(-?\d+)")
    now, before, change = map(int, orders.groups())
    assert now - before == change
    second = hash_of(mine)
    running.next(f"trades hash {second}, different from {first} before\n")
    save(mine, STRATEGY.replace("Param(50", "Param(70") + "# said differently\n")
    running.next(r"orders +\d+ +\d+ +=")
    running.next(f"trades hash {second}, the same as before\n")
    assert running.end() == 0
    assert running.out.endswith("watch: ended after 3 runs\n")


def test_saves_of_one_second_and_one_size_are_told_apart(watch: object, mine: Path) -> None:
    """Python takes a compiled file for current by these two."""
    running = watch()  # type: ignore[operator]
    for every in range(60, 66):
        mine.write_text(STRATEGY.replace("Param(50", f"Param({every}"))
        running.next(rf"Mine every={every}: ")
    assert not (mine.parent / "__pycache__").exists()
    assert running.end() == 0


def test_whatever_the_strategy_does_is_said_and_the_watch_goes_on(
    watch: object, mine: Path
) -> None:
    running = watch()  # type: ignore[operator]
    body = '        return "BUY" if tick.seq // self.every % 2 else "SELL"\n'
    line = STRATEGY.splitlines().index(body.rstrip("\n")) + 1
    save(mine, STRATEGY.replace(body, "        return tick.price / (tick.seq - 1234)\n"))
    running.next(r"watch: Mine failed on tick 0 \(.*\): .*\n")  # a price is no signal
    save(mine, STRATEGY.replace(body, "        1 / (tick.seq - 1234)\n"))
    running.next(
        rf"watch: Mine failed on tick 1234 \(\w+, 2025-10-01 .*\): ZeroDivisionError: .*"
        rf"\({re.escape(str(mine))}:{line}\)\n  {line}: 1 / \(tick.seq - 1234\)\n"
    )
    save(mine, STRATEGY.replace("class Mine", "klass Mine"))
    running.next(r"watch: STRATEGY=.*: SyntaxError: .*mine.py:5\)\n  5: klass Mine")
    save(mine, STRATEGY.replace(body, "        raise SystemExit(3)\n"))
    running.next(r"watch: the strategy called exit\(3\)\n")
    save(mine, "import scipy_of_nobody\n" + STRATEGY)
    running.next(r"No module named 'scipy_of_nobody': add it to .* \(STRATEGY_REQUIREMENTS\)")
    mine.unlink()
    running.next(r"watch: STRATEGY=.*: no file ")
    save(mine, STRATEGY)
    running.next(r"trades hash \w+, the same as before\n")
    assert running.end() == 0


def test_a_module_beside_it_that_is_saved_is_loaded_anew(watch: object, mine: Path) -> None:
    helper = mine.with_name("watched_helper.py")
    helper.write_text("def side(seq): return 'BUY' if seq // 50 % 2 else 'SELL'\n")
    text = STRATEGY.replace('"BUY" if tick.seq // self.every % 2 else "SELL"', "side(tick.seq)")
    mine.write_text("from watched_helper import side\n" + text)
    running = watch()  # type: ignore[operator]
    assert "watched_helper.py" in running.out
    helper.write_text("def side(seq): return 'BUY' if seq // 70 % 2 else 'SELL'\n")
    running.next(r"trades hash \w+, different")
    save(helper, "def side(seq) return 'BUY'\n")
    running.next(r"SyntaxError: .*watched_helper.py:1\)")
    save(helper, "def side(seq): return 'BUY' if seq // 50 % 2 else 'SELL'\n")
    running.next(r"trades hash \w+, different")
    assert running.end() == 0


def test_a_file_of_parameters_is_watched_and_may_be_wrong_for_a_while(
    watch: object, mine: Path, tmp_path: Path
) -> None:
    params = tmp_path / "params.toml"
    params.write_text("every = 60\n")
    running = watch("--params", str(params))  # type: ignore[operator]
    assert f"trades hash {hash_of(mine, 'every=60')}\n" in running.out
    save(params, "every = 0\n")
    running.next(r"watch: STRATEGY_PARAMS: every=0: must be .*\n")
    save(params, "evry = 70\n")
    running.next(r"Mine has no parameter evry; did you mean every\?")
    save(params, "every = 80\n")
    running.next(rf"Mine every=80: [\s\S]*trades hash {hash_of(mine, 'every=80')}, different")
    assert running.end() == 0


@pytest.mark.parametrize("body", ["import time; time.sleep(0.05)", "while True: pass"])
def test_a_save_ends_a_run_that_takes_long(watch: object, mine: Path, body: str) -> None:
    running = watch()  # type: ignore[operator]
    slow = f"""
        try:
            {body}
        except Exception:
            pass
        return """
    save(mine, STRATEGY.replace("        return ", slow[1:]))
    time.sleep(0.5)
    save(mine, STRATEGY)
    running.next(r"trades hash \w+, the same as before\n")
    assert running.end() == 0
    assert running.out.endswith("watch: ended after 2 runs\n")


def test_ticks_that_the_file_does_not_have_are_said(watch: object) -> None:
    running = watch("--ticks", "31000")  # type: ignore[operator]
    text = r"31,000 ticks in [\d.]+ s, of which 1,000 follow the file \(REPLAY=walk\)\n"
    assert re.search(text, running.out)


def test_unusable_data_is_said_at_once(mine: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app", "watch", "--strategy", f"{mine}:Mine"]
    command += ["--data", str(tmp_path / "nothing.csv")]
    ended = subprocess.run(command, cwd=ROOT, env=default_environ(), capture_output=True, text=True)
    assert ended.returncode == 1
    assert re.fullmatch(r"watch: .*nothing.csv.*\n", ended.stderr)
