"""The example workflow: its commands are run in a checkout, as GitHub runs them."""

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from app.config.settings import Settings
from tests.support.compose_stack import ComposeStack
from tests.support.paths import ROOT

WORKFLOW = ROOT / "tests/end_to_end/workflow.yml"
if not WORKFLOW.exists():
    pytest.skip("the image has no documentation", allow_module_level=True)

LOCAL = ("docker-compose.override.yml", "images/ca/bundle.crt")
"""Files of this machine, without which images cannot be built where no registry answers."""


class Step(NamedTuple):
    """A step with a command, and whether it runs after a failure, too."""

    name: str
    command: str
    always: bool


def environ() -> dict[str, str]:
    """The ``env`` of the job."""
    block = re.search(r"^    env:\n((?: {6}\S.*\n)+)", WORKFLOW.read_text(), re.MULTILINE)
    assert block
    return dict(re.findall(r"^ {6}(\w+): (\S+)$", block[1], re.MULTILINE))


def steps() -> list[Step]:
    """The steps with a ``run``; one line, or a block of text."""
    _, _, text = WORKFLOW.read_text().partition("    steps:\n")
    found = []
    for part in re.split(r"^ {6}- ", text, flags=re.MULTILINE)[1:]:
        run = re.search(r"^ {8}run: (?:\|\n((?: {10}.*\n)+)|(.+)\n)", part, re.MULTILINE)
        if run:
            name = re.match(r"name: (.+)\n", part)
            assert name, part
            command = run[2] or re.sub(r"^ {10}", "", run[1], flags=re.MULTILINE)
            found.append(Step(name[1], command, "if: always()" in part))
    return found


def checkout(folder: Path) -> Path:
    """What ``actions/checkout`` makes."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in (*listed.stdout.split("\0"), *LOCAL):
        if name and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def test_the_workflow_names_settings_and_runs_the_documented_command() -> None:
    fields = Settings.from_environ(environ())
    assert (fields.replay, fields.pace, fields.deadline_s) == ("once", "max", 300)
    assert {name.lower() for name in environ()} <= set(Settings.__struct_fields__)
    commands = [step.command for step in steps()]
    assert len(commands) == WORKFLOW.read_text().count(" run:") == 5
    assert "docker compose run --rm -T verdict" in commands
    assert commands[1] in (ROOT / "README.md").read_text()


@pytest.mark.container
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("changes", "code", "summary"),
    [({}, 0, "**Complete: "), ({"EXPECT_ORDERS_MIN": "100000"}, 4, "**Expectation missed: ")],
)
def test_its_commands_work(
    compose_stack: Callable[..., ComposeStack],
    tmp_path: Path,
    changes: dict[str, str],
    code: int,
    summary: str,
) -> None:
    folder = checkout(tmp_path / "checkout")
    step_summary = tmp_path / "summary.md"
    stack = compose_stack(**(environ() | changes), GITHUB_STEP_SUMMARY=str(step_summary))
    codes = {}
    for step in steps():
        if step.always or not any(codes.values()):
            done = subprocess.run(
                ["bash", "-e", "-c", step.command],
                cwd=folder,
                env=stack.environ,
                capture_output=True,
                text=True,
                timeout=400,
            )
            codes[step.name] = done.returncode
            print(step.name, done.stdout[-2000:], done.stderr[-2000:])
    assert {name: found for name, found in codes.items() if found} == (
        {"Replay": code} if code else {}
    )
    assert step_summary.read_text().startswith(summary)
    report = json.loads((folder / "report/report.json").read_text())
    assert report["exit_code"] == code
    failures = ET.parse(folder / "report/junit.xml").getroot().get("failures")
    assert failures == str(int(code != 0))
    assert "Received Order" in (folder / "report/containers.log").read_text()
    assert stack.containers() == []
