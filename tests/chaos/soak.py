"""Soak: the stack at a steady pace; watches memory, lost ticks and latency.

``python -m tests.chaos.soak --minutes 30 --pace 50000`` prints a table and whether memory stayed
flat, no tick was lost, and latency at the end equals that at the start.
"""

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from app.runtime.metrics.histogram import HistogramSnapshot
from app.runtime.metrics.tables import micros, number, plain_text, table
from tests.chaos.host import PROCESSES, HostStack
from tests.support.paths import ROOT

WARM_UP_SHARE: Final = 0.2
"""Share of the run before memory is measured: buffers, caches and the write-ahead log fill up."""
MEMORY_SLACK_BYTES: Final = 2 << 20
PERCENTILES: Final = (50.0, 99.0)


class Soak(NamedTuple):
    """The measurements.  Memory: resident bytes after the warm-up and at the end."""

    ticks: int
    lost: int
    restarts: int
    memory: dict[str, tuple[int, int]]
    first: HistogramSnapshot
    last: HistogramSnapshot

    def problems(self, memory_growth: float, latency_growth: float) -> list[str]:
        """One phrase for each limit that was exceeded."""
        found = []
        if self.lost:
            found.append(f"{self.lost} ticks lost")
        if self.restarts:
            found.append(f"{self.restarts} restarts")
        for service, (before, after) in self.memory.items():
            if after > before * (1 + memory_growth) + MEMORY_SLACK_BYTES:
                found.append(f"{service} grew from {before:,} to {after:,} bytes")
        for percent in PERCENTILES:
            before_ns, after_ns = self.first.percentile(percent), self.last.percentile(percent)
            if after_ns > before_ns * (1 + latency_growth):
                found.append(f"p{percent:g} went from {micros(before_ns)} to {micros(after_ns)} µs")
        return found

    def __str__(self) -> str:
        memory = [
            [service, number(before / 1e6, 1), number(after / 1e6, 1)]
            for service, (before, after) in self.memory.items()
        ]
        both = [(w, self.first.percentile(w), self.last.percentile(w)) for w in PERCENTILES]
        latency = [[f"p{at:g}", micros(start), micros(end)] for at, start, end in both]
        return (
            f"{self.ticks:,} ticks, {self.lost:,} lost, {self.restarts} restarts\n\n"
            + plain_text(
                table(("process", "MB at start", "MB at end"), memory),
                table(("tick to ACK, µs", "at start", "at end"), latency),
            )
        )


def resident_bytes(pid: int) -> int:
    """Private memory of a process: VmRSS would include shared segments."""
    text = Path(f"/proc/{pid}/status").read_text()
    return sum(int(n) * 1024 for n in re.findall(r"Rss(?:Anon|File):\s+(\d+) kB", text))


def latencies(stack: HostStack) -> HistogramSnapshot:
    """Tick to ACK since the start."""
    block = stack.metrics("strategy")
    assert block is not None
    return block.histograms["tick_to_ack_ns"]


def memory_of(stack: HostStack) -> dict[str, int]:
    """Resident bytes of each process."""
    found = {}
    for service in PROCESSES:
        pid = stack.pid_of(service)
        assert pid is not None, f"{service} does not run"
        found[service] = resident_bytes(pid)
    return found


def soak(folder: Path, duration_s: float, ticks_per_s: int, window_s: float) -> Soak:
    """Run the stack for ``duration_s``; compares the latency of the first and last ``window_s``."""
    with HostStack(
        folder,
        data_path=ROOT / "data" / "market_data.csv",
        replay="walk",
        pace=f"{ticks_per_s}/s",
        log_level="WARNING",
    ) as stack:
        stack.wait_until("ticks", lambda: stack.counter("strategy", "ticks_consumed") > 1000, 30)
        begin_s = time.monotonic()

        def until(passed_s: float) -> None:
            stack.wait_until(
                "the time", lambda: time.monotonic() - begin_s >= passed_s, duration_s + 60
            )

        warm_s = max(duration_s * WARM_UP_SHARE, 2.0)
        until(warm_s)
        memory, start = memory_of(stack), latencies(stack)
        until(warm_s + window_s)
        first = latencies(stack) - start
        until(duration_s - window_s)
        before_last = latencies(stack)
        until(duration_s)
        last, after = latencies(stack) - before_last, memory_of(stack)
        blocks = [stack.metrics(service) for service in PROCESSES]
        return Soak(
            stack.counter("strategy", "ticks_consumed"),
            stack.counter("strategy", "ticks_lost") + stack.counter("orderbook", "gaps"),
            sum(block.restarts for block in blocks if block is not None),
            {service: (memory[service], after[service]) for service in PROCESSES},
            first,
            last,
        )


def main(argv: list[str] | None = None) -> int:
    """Run it; 0 if no limit was exceeded."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--pace", type=int, default=50_000, help="ticks per second")
    parser.add_argument("--memory", type=float, default=0.05, help="largest growth, as a fraction")
    parser.add_argument("--latency", type=float, default=0.2, help="largest growth, as a fraction")
    chosen = parser.parse_args(argv)
    duration_s = chosen.minutes * 60
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Path(folder), duration_s, chosen.pace, min(60.0, duration_s / 4))
    print(found)
    problems = found.problems(chosen.memory, chosen.latency)
    print(
        "\n" + ("; ".join(problems) if problems else "memory flat, no tick lost, latency unchanged")
    )
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
