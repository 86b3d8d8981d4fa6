"""Replays a file in a gateway and in a backtest, and says how much of it was resident.

Measured is VmHWM: the highest resident size of the process, with every page of a file that is
mapped, although the kernel could take those at any time.
"""

import json
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from tests.chaos.host import HostStack
from tests.support.feed_helpers import WireClient
from tests.support.paths import ROOT

STRATEGY: Final = """
import numpy as np
from app.strategy.base import Strategy

class Seldom(Strategy):
    def on_batch(self, ticks):
        turn = ticks["seq"] // 50_000 % 2 * 2 - 1
        return np.where(ticks["seq"] % 50_000 == 0, turn, 0).astype(np.int8)
"""
RECEIVED_BYTES: Final = 4 << 20
POLL_S: Final = 0.02


class Replay(NamedTuple):
    """How a process took a file.  ``size_bytes``: of the ticks that were received, if any."""

    ticks: int
    peak_bytes: int
    load_s: float
    replay_s: float
    size_bytes: int = 0


def _peak_bytes(pid: int) -> int:
    """VmHWM of a process; 0 while it ends."""
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) * 1024 if found else 0
    return 0


def _drain(port: int, count: int) -> int:
    """Read all ticks to the end of the run; returns how many bytes they are."""
    buffer = bytearray(RECEIVED_BYTES)
    size, tail = 0, b""
    with WireClient(port, b"RESUME|0*") as client:
        while got := client.socket.recv_into(buffer):
            size += got
            tail = (tail + buffer[max(0, got - 200) : got])[-200:]
    assert tail.endswith(b"END|%d*" % count)
    return size


def in_gateway(environ: dict[str, str]) -> Replay:
    """A gateway loads the file and sends all of it to one client, as fast as that reads."""
    begun_s = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", "app.gateway"],
        cwd=ROOT,
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stderr is not None
        lines = []
        for line in child.stderr:
            lines.append(line)
            if found := re.search(r" ready price_port=(\d+) .* ticks_in_file=(\d+)", line):
                break
        else:
            raise AssertionError("".join(lines))
        ready_s, count = time.monotonic(), int(found[2])
        size_bytes = _drain(int(found[1]), count)
        done_s = time.monotonic()
        peak_bytes = _peak_bytes(child.pid)
        return Replay(count, peak_bytes, ready_s - begun_s, done_s - ready_s, size_bytes)
    finally:
        child.terminate()
        child.communicate(timeout=30)


def in_backtest(environ: dict[str, str], folder: Path) -> Replay:
    """A backtest of a strategy that trades seldom."""
    (folder / "seldom.py").write_text(STRATEGY)
    command = [sys.executable, "-m", "app", "backtest", "--no-plot"]
    command += ["--strategy", f"{folder / 'seldom.py'}:Seldom"]
    begun_s = time.monotonic()
    with (folder / "said").open("w") as said:
        child = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=said, stderr=said)
        # Not the system's ru_maxrss: that has the size of this process, too, before the exec.
        peak_bytes = 0
        while child.poll() is None:
            peak_bytes = max(peak_bytes, _peak_bytes(child.pid))
            time.sleep(POLL_S)
    took_s = time.monotonic() - begun_s
    text = (folder / "said").read_text()
    assert child.returncode == 0, text
    found = re.search(r"^ticks +([\d,]+)\s+ticks/s +([\d,]+)", text, re.MULTILINE)
    assert found, text
    count, per_s = (int(number.replace(",", "")) for number in found.groups())
    return Replay(count, peak_bytes, took_s - count / per_s, count / per_s)


def in_stack(settings: dict[str, object], folder: Path) -> Replay:
    """The four processes replay the file; the size is the gateway's, the rate the strategy's."""
    (folder / "seldom.py").write_text(STRATEGY)
    stack = HostStack(
        folder / "stack",
        pace="max",
        dashboard_port=0,
        strategy=f"{folder / 'seldom.py'}:Seldom",
        stall_timeout_s=600,
        **settings,
    )
    begun_s, peak_bytes = time.monotonic(), 0
    try:
        stack.start()
        while stack.running:
            pid = stack.pid_of("gateway")
            if pid is not None:
                peak_bytes = max(peak_bytes, _peak_bytes(pid))
            time.sleep(POLL_S)
        took_s = time.monotonic() - begun_s
        assert stack.wait(1) == 0, stack.tail()
        stages = json.loads((stack.folder / "report.json").read_text())["stages"]
    finally:
        stack.stop()
    consumed = next(stage for stage in stages if stage["label"] == "strategy")
    count, replay_s = consumed["count"], consumed["active_s"]
    return Replay(count, peak_bytes, took_s - replay_s, replay_s)
