"""Every situation of a CI run in containers: exit code, last line, seconds; and the page of them.

``WRITE_CI_SITUATIONS=1`` writes ``ci_situations.md`` again.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import docker
import pytest

from tests.end_to_end.situations.model import Run, Situation, write_files
from tests.end_to_end.situations.table import SITUATIONS
from tests.support.compose_stack import ComposeStack
from tests.support.paths import ROOT

PAGE = ROOT / "tests/end_to_end/ci_situations.md"
if not PAGE.exists() and not os.environ.get("WRITE_CI_SITUATIONS"):
    pytest.skip("the image has no documentation", allow_module_level=True)

COMMAND = ("docker", "compose", "run", "--rm", "-T", "verdict")
AT_ONCE = 3
"""Situations that run at the same time: they wait more than they work."""
STARTED = re.compile(r"^\S+Z ")


HEAD = f"""# How a run ends in CI

Written by `tests/end_to_end/test_ci_situations.py`, which plays each of these situations in
containers (`WRITE_CI_SITUATIONS=1` writes the page again):

```
REPLAY=once PACE=max ... {" ".join(COMMAND)}
```

The second column has further settings, and what happens during the run. Seconds are from the
command to its exit, on a virtual machine with two cores, three situations at a time; none may take
longer than the deadline, although `DEADLINE_S` is set only where it is shown.

| situation | settings; what happens | exit code | last line | seconds | deadline |
|---|---|---|---|---|---|"""


class Outcome(NamedTuple):
    """How a situation ended."""

    situation: Situation
    code: int
    last_line: str
    took_s: float
    output: str
    artefacts: dict[str, bytes]
    restarts: int

    def problems(self) -> list[str]:
        """What is not as it has to be."""
        wanted = self.situation
        found = []
        if self.code not in (wanted.code, *wanted.or_codes):
            found.append(f"exit code {self.code}, expected {wanted.code}")
        if not re.search(wanted.last, self.last_line):
            found.append(f"last line does not match {wanted.last!r}")
        if self.took_s > wanted.deadline_s:
            found.append(f"took {self.took_s:.0f} s of {wanted.deadline_s}")
        if self.restarts > 1 and wanted.code in (2, 3, 4):
            found.append(f"the strategy was restarted {self.restarts} times")
        if wanted.reports:
            found += self._artefact_problems()
        head = f"{wanted.name} ({wanted.command}): "
        return [f"{head}{each}\n{self.output[-3000:]}" for each in found]

    def _artefact_problems(self) -> list[str]:
        try:
            report = json.loads(self.artefacts["report.json"])
        except (KeyError, ValueError) as error:
            return [f"no report.json: {error!r}"]
        found = []
        if report["exit_code"] != self.code:
            found.append(f"report.json has exit code {report['exit_code']}: {report['verdict']}")
        if (b"<failure" in self.artefacts["junit.xml"]) != (self.code != 0):
            found.append("junit.xml does not agree with the exit code")
        if f"Exit code {self.code}." not in self.artefacts["performance_report.md"].decode():
            found.append("performance_report.md does not agree with the exit code")
        return found


@contextlib.contextmanager
def taken_port() -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield str(taken.getsockname()[1])


def play(situation: Situation, folder: Path) -> Outcome:
    """Run the command in a project of its own, and do what happens meanwhile."""
    settings = {"REPLAY": "once", "PACE": "max", **write_files(situation, folder)}
    with contextlib.ExitStack() as cleanup:
        for name, value in settings.items():
            if value == "taken":
                settings[name] = cleanup.enter_context(taken_port())
        stack = ComposeStack(**settings)
        cleanup.callback(stack.destroy)
        cleanup.callback(lambda: stack.compose("unpause", check=False))
        started_s = time.monotonic()
        output = folder / "output.log"
        with output.open("wb") as log:
            process = subprocess.Popen(
                COMMAND,
                cwd=ROOT,
                env=stack.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            if situation.action:
                run = Run(stack, lambda number: os.killpg(process.pid, number))
                run.wait_for_tick(situation.tick)
                situation.action(run)
            code = process.wait(situation.deadline_s + 30)
        except (subprocess.TimeoutExpired, AssertionError) as error:
            code = -1
            output.write_text(f"{output.read_text()}\n{stack.logs()}\n{error}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        took_s = time.monotonic() - started_s
        text = output.read_text()
        lines = [line for line in text.splitlines() if line.strip()]
        restarts = [c.attrs["RestartCount"] for c in stack.containers("strategy")]
        return Outcome(
            situation, code, lines[-1], took_s, text, artefacts(stack), max(restarts, default=0)
        )


def artefacts(stack: ComposeStack) -> dict[str, bytes]:
    """The files of the report, as ``docker compose cp strategy:...`` gets them."""
    found = {}
    for name in ("report.json", "junit.xml", "performance_report.md"):
        with contextlib.suppress(docker.errors.APIError, ValueError, IndexError):
            found[name] = stack.file_from("strategy", f"/srv/out/{name}")
    return found


def page_of(outcomes: list[Outcome]) -> str:
    """The page, from what has happened."""
    lines = [HEAD]
    for each in outcomes:
        wanted = each.situation
        last = STARTED.sub("", each.last_line).replace("|", "\\|")
        lines.append(
            f"| {wanted.name} | {wanted.command} | {each.code} | {last} | {each.took_s:.0f} | "
            f"{wanted.deadline_s} |"
        )
    return "\n".join(lines) + "\n"


def rows_of(page: str) -> list[tuple[str, str, str, str]]:
    """Situation, settings, exit code and deadline of every row of a page."""
    cells = [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in page.splitlines()]
    return [(c[0], c[1], c[2], c[5]) for c in cells if len(c) == 6 and c[2].isdigit()]


def test_the_page_has_every_situation_and_its_code() -> None:
    wanted = [(s.name, s.command, str(s.code), str(s.deadline_s)) for s in SITUATIONS]
    page = PAGE.read_text()
    assert rows_of(page) == wanted
    assert len(wanted) >= 25
    for situation, line in zip(
        SITUATIONS,
        [line for line in page.splitlines() if re.search(r"\| \d+ \|", line)],
        strict=True,
    ):
        assert re.search(situation.last.strip("^$"), line.replace("\\|", "|")), line


@pytest.mark.container
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("images")
@pytest.mark.parametrize(
    "situation", [s for s in SITUATIONS if s.small], ids=lambda s: s.name.replace(" ", "_")
)
def test_a_run_ends_as_it_has_to(situation: Situation, tmp_path: Path) -> None:
    assert play(situation, tmp_path).problems() == []


@pytest.mark.container
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("images")
def test_every_situation_ends_as_it_has_to(tmp_path: Path) -> None:
    writes = bool(os.environ.get("WRITE_CI_SITUATIONS"))
    played = [s for s in SITUATIONS if writes or not s.small]  # the test above has the small ones
    folders = [tmp_path / str(number) for number in range(len(played))]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(play, played, folders))
    problems = [problem for each in outcomes for problem in each.problems()]
    assert not problems, "\n\n".join(problems)
    if writes:
        PAGE.write_text(page_of(outcomes))
    test_the_page_has_every_situation_and_its_code()
