"""The JSON log: one object per line, from everything, with the documented fields."""

import ast
import json
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.chaos.host import HostStack
from tests.support.environ import default_environ
from tests.support.paths import ROOT

COMMON = {"ts", "level", "service", "event"}
SERVICES = {"gateway", "orderbook", "strategy", "order_manager", "main", "shm"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


class Documented(NamedTuple):
    """One event of the table: its levels, the fields that it must have, those that it may have."""

    levels: set[str]
    must: set[str]
    may: set[str]


def documented() -> dict[str, Documented]:
    """The tables of ``app/runtime/README.md``."""
    section = (ROOT / "app/runtime/README.md").read_text().partition("## Log")[2]
    found = {}
    for line in section.partition("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| `"):
            continue
        may = set(re.findall(r"\(`(\w+)`", cells[2]))
        must = set(re.findall(r"`(\w+)`", cells[2])) - may
        for event in re.findall(r"`(\w+)`", cells[0]):
            found[event] = Documented(set(cells[1].split(", ")), must, must | may)
    return found


EVENTS = documented()


def check(line: str) -> dict[str, Any]:
    """Parse a line and compare it with the documentation."""
    entry = json.loads(line)
    assert isinstance(entry, dict), line
    assert entry.keys() >= COMMON, line
    assert TIME.fullmatch(entry["ts"]), line
    assert entry["service"] in SERVICES, line
    assert entry["event"] in EVENTS, line
    rule = EVENTS[entry["event"]]
    assert entry["level"] in rule.levels, line
    fields = entry.keys() - COMMON
    assert rule.must <= fields <= rule.may, line
    return dict(entry)


def calls() -> list[tuple[str, str, list[str | None]]]:
    """Every ``log.info("event", key=...)`` and the like in the code."""
    return [
        (node.func.attr, node.args[0].value, [keyword.arg for keyword in node.keywords])
        for path in sorted((ROOT / "app").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "log"
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    ]


def test_every_event_in_the_code_is_documented() -> None:
    found = calls()
    assert len(found) > 50
    for method, event, keys in found:
        assert event in EVENTS, event
        rule = EVENTS[event]
        assert {"exception": "error"}.get(method, method) in rule.levels, event
        named = {key for key in keys if key is not None}
        assert named <= rule.may, event
        assert None in keys or rule.must <= named, event


NOISY = """\
import sys
import warnings
from app.strategy import CrossCheck

class Noisy(CrossCheck):
    def on_batch(self, ticks):
        if ticks["seq"][0] == 0:
            print("two\\nlines")
            print("to stderr", file=sys.stderr)
            warnings.warn("careful", stacklevel=1)
        return super().on_batch(ticks)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of a run of all four on this host, with denials, at level DEBUG."""
    folder = tmp_path_factory.mktemp("json_log")
    (folder / "noisy.py").write_text(NOISY)
    with HostStack(
        folder,
        log_format="json",
        log_level="DEBUG",
        pace="5000/s",
        strategy=f"{folder}/noisy.py:Noisy",
        risk_client_position_qty_max=15,
        order_qty=10,
        order_mode="every",
    ) as stack:
        assert stack.wait(100) == 0, stack.tail()
        return stack.log_path


@pytest.mark.medium
def test_every_line_of_a_run_is_one_documented_object(run: Path) -> None:
    entries = [check(line) for line in run.read_text().splitlines()]
    events = {entry["event"] for entry in entries}
    assert events >= {"order_received", "order_denied", "order_rejected", "report"}
    assert events >= {"printed", "python_warning", "stopped"}
    assert {entry["service"] for entry in entries} == SERVICES - {"shm"}
    printed = [entry["text"] for entry in entries if entry["event"] == "printed"]
    assert printed == ["two", "lines", "to stderr"]
    report = next(entry for entry in entries if entry["event"] == "report")
    assert report["text"].rstrip().endswith(report["verdict"])


@pytest.mark.medium
def test_jq_reads_every_line(run: Path) -> None:
    jq = shutil.which("jq")
    if jq is None:
        pytest.skip("jq is not installed")
    lines = run.read_text().splitlines()
    # Each line by itself (-R), as one jq process per line would; there are thousands.
    done = subprocess.run(
        [jq, "-e", "-R", "-c", "fromjson"], input="\n".join(lines), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    seen = [json.loads(line).keys() for line in done.stdout.splitlines()]
    assert seen == [json.loads(line).keys() for line in lines]
    whole = subprocess.run([jq, "-e", "."], input=lines[0], capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr


@pytest.mark.medium
def test_one_order_and_one_tick_can_be_followed_through_all(run: Path) -> None:
    entries = [json.loads(line) for line in run.read_text().splitlines()]
    denied = next(entry for entry in entries if entry["event"] == "order_denied")
    told = next(entry for entry in entries if entry["event"] == "order_rejected")
    assert [told[key] for key in ("client", "id", "symbol", "code", "msg")] == [
        denied[key] for key in ("client", "id", "symbol", "code", "msg")
    ]
    seq = denied["id"] - 1
    followed = [
        (entry["service"], entry["event"])
        for entry in entries
        if entry.get("seq") == seq and entry["level"] == "debug"
    ]
    assert sorted(followed) == [
        ("gateway", "tick_released"),
        ("order_manager", "order_answered"),
        ("orderbook", "tick_published"),
        ("strategy", "tick_decided"),
    ]
    by_id = {entry["service"] for entry in entries if entry.get("id") == denied["id"]}
    assert by_id == {"gateway", "orderbook", "strategy", "order_manager"}


@pytest.mark.medium
def test_a_run_at_info_has_no_line_per_tick(tmp_path: Path) -> None:
    with HostStack(tmp_path, pace="max", log_format="json") as stack:
        assert stack.wait(60) == 0
        entries = [check(line) for line in stack.log_path.read_text().splitlines()]
    assert {entry["level"] for entry in entries} == {"info"}
    assert [entry for entry in entries if entry["event"] == "position"]


@pytest.mark.parametrize("service", ["gateway", "orderbook", "strategy", "order_manager", "main"])
def test_invalid_settings_are_one_object(service: str, tmp_path: Path) -> None:
    done = start(service, tmp_path, PACE="fast", ORDER_GROUP_MAX="0")
    assert (done.returncode, done.stdout) == (2, "")
    (entry,) = map(check, done.stderr.splitlines())
    assert (entry["event"], entry["service"]) == ("invalid_settings", service)
    assert "PACE=fast: " in entry["error"]
    assert "ORDER_GROUP_MAX=0: " in entry["error"]


def test_an_invalid_log_format_is_said_in_text(tmp_path: Path) -> None:
    done = start("gateway", tmp_path, LOG_FORMAT="xml")
    assert done.stderr.startswith("gateway: invalid settings:\nLOG_FORMAT=xml: must be one of")


def test_the_format_in_the_settings_file_counts(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LOG_FORMAT=json\nPACE=fast\n")
    code = "from app.config.loading import settings_or_exit; settings_or_exit('main')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert check(done.stderr.rstrip("\n"))["event"] == "invalid_settings"


def test_a_missing_certificate_is_one_object(tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    done = start("order_manager", tmp_path, ORDER_TOKEN_FILE=missing)
    assert done.returncode == 2
    entries = [check(line) for line in done.stderr.splitlines()[:2]]
    first = next(entry for entry in entries if entry["event"] != "not_compiled")
    assert first["event"] == "invalid_settings"
    assert missing in first["error"]


def test_refused_data_and_fatal_errors_are_objects(tmp_path: Path) -> None:
    done = start("gateway", tmp_path, DATA_PATH=str(tmp_path / "none.csv"))
    assert done.returncode == 1
    entries = [check(line) for line in done.stderr.splitlines()]
    assert "data_refused" in {entry["event"] for entry in entries}
    last = entries[-1]
    assert (last["event"], last["level"], last["exit_code"]) == ("stopped", "error", 1)
    assert "none.csv" in last["reason"]


@pytest.mark.parametrize(
    "fault",
    [
        "1 / 0",
        "import threading; t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()",
        "from app.runtime.log import get_logger\n"
        "try: 1 / 0\nexcept ArithmeticError: get_logger().exception('bug')",
    ],
)
def test_a_traceback_is_a_field_of_one_object(fault: str) -> None:
    code = f"from app.runtime.log import setup_logging; setup_logging('main', form='json')\n{fault}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    (entry,) = map(check, done.stderr.splitlines())
    assert entry["event"] == "bug"
    assert "Error: " in entry["exception"]


def test_the_owner_of_the_shared_memory(tmp_path: Path) -> None:
    code = (
        "import sys; from app.runtime.container import ipc_owner as o; "
        f"o.LOCK_FILE = {str(tmp_path / 'no' / 'file')!r}; sys.exit(o.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"LOG_FORMAT": "json"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    (entry,) = map(check, done.stderr.splitlines())
    assert (entry["service"], entry["event"]) == ("shm", "fatal")


def start(service: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run one process to its end, in JSON."""
    environ = default_environ() | {"LOG_FORMAT": "json", "OUTPUT_DIR": str(folder)} | settings
    module = "app.main" if service == "main" else f"app.{service}"
    metrics = f"test_log_{secrets.token_hex(6)}"
    try:
        return subprocess.run(
            [sys.executable, "-m", module],
            cwd=ROOT,
            env=environ | {"SHM_METRICS": metrics},
            capture_output=True,
            text=True,
            timeout=30,
        )
    finally:
        for segment in Path("/dev/shm").glob(f"{metrics}*"):
            segment.unlink(missing_ok=True)


def test_a_whole_second_has_its_microseconds() -> None:
    code = (
        "import datetime, structlog.processors as processors\n"
        "from types import SimpleNamespace\n"
        "from app.runtime.log import get_logger, setup_logging\n"
        "whole = datetime.datetime(2026, 11, 26, 0, 18, 57, tzinfo=datetime.UTC)\n"
        "clock = SimpleNamespace(now=lambda tz=None: whole)\n"
        "processors.datetime = SimpleNamespace(datetime=clock, timezone=datetime.timezone)\n"
        "setup_logging('gateway')\n"
        "get_logger().info('ready')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == "2026-11-26T00:18:57.000000Z INFO gateway ready\n"
