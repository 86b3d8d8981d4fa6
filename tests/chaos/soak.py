"""Hours in minutes: the stack at a steady pace, its memory, its losses and its latency watched.

``python -m tests.chaos.soak --minutes 30 --pace 50000`` ends with a table and says whether memory
stayed flat, nothing was lost, and latency at the end is what it was at the beginning.
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

WARM_UP_PART: Final = 0.2
"""The part of the run before memory counts: buffers, caches and the write-ahead log fill up."""
MEMORY_SLACK_BYTES: Final = 2 << 20
PERCENTILES: Final = (50.0, 99.0)


class Soak(NamedTuple):
    """What was seen.  Memory: resident bytes after the warm-up and at the end."""

    ticks: int
    lost: int
    restarts: int
    memory: dict[str, tuple[int, int]]
    first: HistogramSnapshot
    last: HistogramSnapshot

    def problems(self, memory_part: float, latency_part: float) -> list[str]:
        """What is not as it should be, a phrase each."""
        found = []
        if self.lost:
            found.append(f"{self.lost} ticks lost")
        if self.restarts:
            found.append(f"{self.restarts} restarts")
        for service, (before, after) in self.memory.items():
            if after > before * (1 + memory_part) + MEMORY_SLACK_BYTES:
                found.append(f"{service} grew from {before:,} to {after:,} bytes")
        for percent in PERCENTILES:
            before_ns, after_ns = self.first.percentile(percent), self.last.percentile(percent)
            if after_ns > before_ns * (1 + latency_part):
                found.append(f"p{percent:g} went from {micros(before_ns)} to {micros(after_ns)} µs")
        return found

    def __str__(self) -> str:
        memory = [
            [service, number(before / 1e6, 1), number(after / 1e6, 1)]
            for service, (before, after) in self.memory.items()
        ]
        both = [(w, self.first.percentile(w), self.last.percentile(w)) for w in PERCENTILES]
        latency = [[f"p{at:g}", micros(then), micros(now)] for at, then, now in both]
        return (
            f"{self.ticks:,} ticks, {self.lost:,} lost, {self.restarts} restarts\n\n"
            + plain_text(
                table(("process", "MB then", "MB now"), memory),
                table(("tick to ACK, µs", "first", "last"), latency),
            )
        )


def resident_bytes(pid: int) -> int:
    """Memory of a process that is its own: shared segments are counted with whoever maps them."""
    text = Path(f"/proc/{pid}/status").read_text()
    return sum(int(n) * 1024 for n in re.findall(r"Rss(?:Anon|File):\s+(\d+) kB", text))


def latencies(stack: HostStack) -> HistogramSnapshot:
    """From a tick's receipt to its order's ACK, since the start."""
    block = stack.metrics("strategy")
    assert block is not None
    return block.histograms["tick_to_ack_ns"]


def memory_of(stack: HostStack) -> dict[str, int]:
    """Resident bytes of each process."""
    found = {}
    for service in PROCESSES:
        pid = stack.pid_of(service)
        assert pid is not None, f"{service} is gone"
        found[service] = resident_bytes(pid)
    return found


def soak(folder: Path, duration_s: float, ticks_per_s: int, window_s: float) -> Soak:
    """Run the stack for ``duration_s``; the first and the last ``window_s`` are compared."""
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

        warm_s = max(duration_s * WARM_UP_PART, 2.0)
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
    """Run it; 0 if all is as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--pace", type=int, default=50_000, help="ticks per second")
    parser.add_argument("--memory", type=float, default=0.05, help="growth allowed")
    parser.add_argument("--latency", type=float, default=0.2, help="growth allowed")
    chosen = parser.parse_args(argv)
    duration_s = chosen.minutes * 60
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Path(folder), duration_s, chosen.pace, min(60.0, duration_s / 4))
    print(found)
    problems = found.problems(chosen.memory, chosen.latency)
    print(
        "\n" + ("; ".join(problems) if problems else "flat, complete, as fast as in the beginning")
    )
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
