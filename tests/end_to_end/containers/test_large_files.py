"""Files of a gigabyte in containers, with the memory limits and health checks they always have."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from app.backtest.outcome import first_difference, of_store
from tests.chaos.run_host import undisturbed
from tests.support.compose_stack import SERVICES, ComposeStack
from tests.support.large.replays import STRATEGY

files = pytest.importorskip("tests.support.large.files", reason="needs pyarrow")

pytestmark = [
    pytest.mark.container,
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.usefixtures("images"),
]

MB: Final = 1 << 20
GB: Final = 1 << 30
LIMIT_S: Final = 1500
NAME: Final = "data/strategies/seldom.py:Seldom"
_RESIDENT: Final = """
import pathlib, json
for name, field in (("memory.stat", "anon"), ("memory/memory.stat", "total_rss")):
    path = pathlib.Path("/sys/fs/cgroup", name)
    if path.exists():
        print(dict(line.split() for line in path.read_text().splitlines())[field])
        break
"""
"""What cannot be taken from the processes of a container, unlike the kernel's cache of files."""


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_of_a_gigabyte(
    compose_stack: Callable[..., ComposeStack],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
) -> None:
    """It starts as a small one does, takes as little memory, and trades as in the backtest."""
    needed = 10 * GB if form == "parquet" else 5 * GB
    if shutil.disk_usage(tmp_path).free < needed:
        pytest.skip(f"needs {needed // GB} GB of disk for the file and its rows")
    path = tmp_path / f"big.{form}"
    monkeypatch.chdir(tmp_path)  # the strategy has the same name there, so its client has, too
    strategies = tmp_path / "data" / "strategies"
    strategies.mkdir(parents=True)
    (strategies / "seldom.py").write_text(STRATEGY)
    for folder in (tmp_path, strategies):
        folder.chmod(0o755)
    stack = compose_stack(
        DATA_DIR=str(tmp_path),
        DATA_PATH=f"data/{path.name}",
        STRATEGY_DIR=str(strategies),
        STRATEGY=NAME,
        REPLAY="once",
        PACE="max",
        START_PAUSED="true",
    )
    try:
        count = getattr(files, f"write_{form}")(path, GB)
        stack.compose("up", "-d", "--wait", timeout_s=LIMIT_S)
        code, resident = stack.run_in("gateway", "python3", "-c", _RESIDENT)
        assert code == 0, resident
        assert 0 < int(resident) < 400 * MB
        assert stack.run_in("gateway", "python3", "-m", "app", "replay", "resume")[0] == 0
        assert stack.container("strategy").wait(timeout=LIMIT_S)["StatusCode"] == 0, stack.logs()
        report = json.loads(stack.file_from("strategy", "/srv/out/report.json"))
        consumed = {each["label"]: each for each in report["stages"]}["strategy"]
        assert (consumed["count"], consumed["restarts"]) == (count, 0)
        for service in SERVICES:
            assert not stack.container(service).attrs["State"]["OOMKilled"], service
        stack.compose("stop", "order_manager")  # its store is one file then
        store = tmp_path / "orders.sqlite3"
        store.write_bytes(stack.file_from("order_manager", "/srv/out/orders.sqlite3"))
        same = undisturbed(path, strategy=NAME)
        assert first_difference(of_store(store), same) is None
    finally:
        stack.destroy()  # its volume has the ticks
        path.unlink(missing_ok=True)
