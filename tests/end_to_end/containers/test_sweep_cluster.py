"""A sweep on a Dask cluster of containers: two workers, one of them killed in the middle."""

import csv
import io
import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.compose_stack import ComposeStack, eventually
from tests.support.paths import ROOT

pytestmark = [
    pytest.mark.container,
    pytest.mark.timeout(1200),
    pytest.mark.usefixtures("images"),
]

COMPOSE = ("--project-directory", ".", "-f", "images/dask/docker-compose.yml")
CELLS = ("--param", "short=2:11", "--param", "long=20:210:10")
TABLE = "import glob; print(open(glob.glob('/srv/out/{}/**/sweep.csv', recursive=True)[0]).read())"


@pytest.fixture
def stack() -> Iterator[ComposeStack]:
    """A project of its own; nothing of it is left."""
    made = ComposeStack()
    try:
        yield made
    finally:
        made.compose(*COMPOSE, "--profile", "*", "down", "-v", "--timeout", "1", check=False)


def test_nobody_reaches_the_cluster_and_each_container_is_locked_down(stack: ComposeStack) -> None:
    done = stack.compose(*COMPOSE, "--profile", "*", "config", "--format", "json")
    config = json.loads(done.stdout)
    assert config["networks"]["cluster"]["internal"] is True
    assert set(config["services"]) == {"scheduler", "worker", "sweep"}
    for service in config["services"].values():
        assert list(service["networks"]) == ["cluster"]
        assert not service.get("ports")
        assert service["user"] == "10001:10001"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert int(service["mem_limit"]) == int(service["memswap_limit"]) > 0
        assert service["pids_limit"] > 0


@pytest.mark.slow
def test_200_cells_on_two_workers_one_of_them_killed(stack: ComposeStack) -> None:
    """By the script of the Make target, and beside it the same sweep in one container."""
    environ = {**stack.environ, "SWEEP_WORKERS": "2"}
    script = ROOT / "images/dask/sweep.sh"
    start = subprocess.run(
        [script, "--param", "short=5", "--param", "long=20", "--ticks", "500"],
        cwd=ROOT, env=environ, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert start.returncode == 0, start.stdout + start.stderr
    running = subprocess.Popen(
        [script, *CELLS, "--out", "/srv/out/far"],
        cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    kill_a_worker(stack)
    out, err = running.communicate(timeout=300)
    assert running.returncode == 0, out + err
    assert "cells: 200 ok" in out
    assert sum(each.attrs["RestartCount"] for each in stack.containers("worker")) == 1
    alone = ("run", "--rm", "-T", "--no-deps", "--entrypoint", "python3", "sweep")
    stack.compose(
        *COMPOSE, *alone, "-m", "app", "sweep", *CELLS, "--out", "/srv/out/local", timeout_s=300
    )
    far, local = (
        rows(stack.compose(*COMPOSE, *alone, "-c", TABLE.format(name)).stdout)
        for name in ("far", "local")
    )
    assert len(far) == 200
    assert far == local


def kill_a_worker(stack: ComposeStack) -> None:
    """SIGKILL the init of a worker's container, once it runs a cell."""

    def busy() -> Any:
        for container in stack.containers("worker"):
            if "cell_process" in str(container.top()["Processes"]):
                return container.attrs["State"]["Pid"]
        return None

    os.kill(eventually(busy, "a worker that runs cells", 120), 9)


def rows(text: str) -> list[dict[str, str]]:
    """Of a sweep.csv, by cell, without the time taken."""
    found = [
        {name: value for name, value in row.items() if name != "took_ms"}
        for row in csv.DictReader(io.StringIO(text.strip()))
    ]
    return sorted(found, key=lambda row: int(row["cell"]))
