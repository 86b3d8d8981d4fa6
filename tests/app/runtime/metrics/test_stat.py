"""``python -m app stat``: rates, states, tables, JSON, .hgrm files, Ctrl-C."""

import json
import os
import pty
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.runtime.metrics import stat as stat_view
from app.runtime.metrics.figures import state_of, take_sample
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.shared_memory_utils.segment import SHM_DIRECTORY
from tests.support.paths import ROOT

DEADLINE_S = 20


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test_stat_{os.getpid()}_{secrets.token_hex(4)}"
    yield name
    (SHM_DIRECTORY / name).unlink(missing_ok=True)


@pytest.fixture
def strategy(name: str) -> Iterator[ProcessMetrics]:
    metrics = ProcessMetrics.open(name, "strategy", "fast")
    metrics.set_state("ready")
    metrics.set("ticks_consumed", 1000)
    metrics.set("signals_buy", 3)
    metrics.histogram("tick_to_ack_ns").record(50_000)
    yield metrics
    metrics.close()


def at(sample: stat_view.Sample, taken_s: float) -> stat_view.Sample:
    return sample._replace(taken_s=taken_s)


def command(name: str, *arguments: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "app",
        "stat",
        "--segment",
        name,
        *arguments,
    ]


def once(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(name, *arguments), cwd=ROOT, capture_output=True, text=True)


def test_rates_are_growth_since_the_last_refresh(name: str, strategy: ProcessMetrics):
    first = at(take_sample(name), 10.0)
    strategy.add("ticks_consumed", 500)
    strategy.add("signals_buy", 4)
    strategy.set("queue_depth", 12)
    strategy.set("ticks_lost", 2)
    strategy.histogram("tick_to_ack_ns").record(900_000)
    now = at(take_sample(name), 12.0)
    (row,) = stat_view.process_rows(now, first, stale_after_s=3)
    assert row[:2] == ["strategy/fast", "ready"]
    assert row[3:] == ["0", "1,500", "250", "12", "2"]
    assert stat_view.counter_lines(now, first) == ["strategy/fast: signals_buy 7 (+2/s)"]
    recent = {row[0]: row[1:] for row in stat_view.latency_rows(now, first)}
    assert recent["strategy/fast tick_to_ack"] == ["1", *["901.1"] * 5]
    ever = {row[0]: row[1:] for row in stat_view.latency_rows(now, None)}
    assert ever["strategy/fast tick_to_ack"] == ["2", "50.2", *["901.1"] * 4]
    assert ever["strategy/fast order_ack"] == ["0", *["-"] * 5]


def test_a_restarted_process_has_no_rate_from_its_previous_life(
    name: str, strategy: ProcessMetrics
):
    first = at(take_sample(name), 10.0)
    strategy.close()
    heir = ProcessMetrics.open(name, "strategy", "fast")
    heir.set("ticks_consumed", 1)
    now = at(take_sample(name), 11.0)
    (row,) = stat_view.process_rows(now, first, stale_after_s=3)
    assert row[3:6] == ["1", "1", "-"]
    heir.close()


def test_states_show_what_liveness_makes_of_them(name: str, strategy: ProcessMetrics):
    (process,) = take_sample(name).processes
    assert state_of(process, stale_after_s=3) == "ready"
    old = process._replace(heartbeat_age_s=5.0)
    assert state_of(old, stale_after_s=3) == "stale (ready)"
    dead = process._replace(alive=False)
    assert state_of(dead, stale_after_s=3) == "dead (ready)"
    done = dead._replace(state="done")
    assert state_of(done, stale_after_s=3) == "done"


def test_once_prints_the_tables(name: str, strategy: ProcessMetrics):
    result = once(name, "--once")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].split() == " ".join(stat_view.PROCESS_HEADER).split()
    assert lines[2].split()[:2] == ["strategy/fast", "ready"]
    assert any(line.split()[:3] == ["strategy/fast", "tick_to_ack", "1"] for line in lines)
    assert lines[-1] == "strategy/fast: signals_buy 3"


def test_json(name: str, strategy: ProcessMetrics):
    result = once(name, "--once", "--json")
    (process,) = json.loads(result.stdout)["processes"]
    assert (process["label"], process["alive"]) == ("strategy/fast", True)
    assert process["counters"]["ticks_consumed"] == 1000
    assert process["histograms"]["tick_to_ack_ns"]["p99.9"] == 50_175


def test_hgrm_files(name: str, strategy: ProcessMetrics, tmp_path: Path):
    result = once(name, "--hgrm", str(tmp_path / "new"))
    path = tmp_path / "new" / "strategy-fast.tick_to_ack_us.hgrm"
    assert result.stdout.split() == [str(path)]
    assert os.listdir(path.parent) == [path.name]
    assert path.read_text().splitlines()[2].split()[0] == "50.17"


def test_no_segment_is_one_clear_line(name: str):
    result = once(name)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (f"stat: metrics segment {name} does not exist: nothing runs here\n")


def test_plain_view_refreshes_until_ctrl_c(name: str, strategy: ProcessMetrics):
    with subprocess.Popen(
        command(name, "--json", "--interval", "0.05"), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
        assert first["processes"][0]["events_per_s"] is None
        assert second["processes"][0]["events_per_s"] == 0
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(DEADLINE_S) == 0


def test_view_ends_when_the_segment_goes(name: str, strategy: ProcessMetrics):
    with subprocess.Popen(
        command(name, "--plain", "--interval", "0.05"), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("process")
        (SHM_DIRECTORY / name).unlink()
        process.stdout.read()
        assert process.wait(DEADLINE_S) == 0


def test_full_screen_view_draws_and_gives_the_terminal_back(name: str, strategy: ProcessMetrics):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(name, "--interval", "0.05"),
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "110", "LINES": "40"},
    )
    os.close(theirs)
    try:
        drawn = read_terminal(ours, until=[b"strategy/fast", b"tick_to_ack", b"50.2", b"Ctrl-C"])
        assert b"\x1b[?1049h" in drawn, "the alternate screen"
        process.send_signal(signal.SIGINT)
        read_terminal(ours, until=[b"\x1b[?1049l"])
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_terminal(descriptor: int, until: list[bytes]) -> bytes:
    """What the terminal shows, up to the moment it has shown every word of ``until``."""
    deadline = time.monotonic() + DEADLINE_S
    shown = b""
    while not all(word in shown for word in until):
        left = deadline - time.monotonic()
        assert left > 0, f"not shown in time: {shown[-2000:]!r}"
        if select.select([descriptor], [], [], left)[0]:
            shown += os.read(descriptor, 65536)
    return shown
