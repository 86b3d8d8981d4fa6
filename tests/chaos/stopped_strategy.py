"""One of two strategies is stopped (SIGSTOP): the effect on the other, under either policy.

``python -m tests.chaos.stopped_strategy --seconds 60 --policy latest``
"""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from app.runtime.metrics.histogram import HistogramSnapshot
from app.runtime.metrics.snapshot import ProcessSnapshot
from app.runtime.metrics.tables import micros
from tests.bench.model import ANYWHERE
from tests.bench.subjects.stack import Stack, of, settings_for

RING_TICKS = 4096
STARTED_TICKS = 4000


class Measured(NamedTuple):
    """Latency of the running strategy before and during the stop; ticks that each one lost."""

    before: HistogramSnapshot
    during: HistogramSnapshot
    lost: int
    lost_by_the_other: int
    caught_up_s: float

    def __str__(self) -> str:
        points = ", ".join(
            f"p{at:g} {micros(self.before.percentile(at))} -> {micros(self.during.percentile(at))}"
            for at in (50.0, 99.0)
        )
        return (
            f"the other strategy's tick to ACK, µs: {points}; it lost {self.lost_by_the_other} "
            f"ticks; the stopped one lost {self.lost} and caught up after "
            f"{self.caught_up_s:.2f} s"
        )


def measure(folder: Path, seconds: float, policy: str, ticks_per_s: int = 2000) -> Measured:
    """Both run for ``seconds``; then one is stopped for the same time, and continues."""
    settings = settings_for(
        folder,
        ANYWHERE,
        replay="walk",
        pace=f"{ticks_per_s}/s",
        ring_policy=policy,
        ring_capacity_ticks=RING_TICKS,
        log_level="WARNING",
    )
    with Stack(settings, {"runs": {}, "stops": {}}) as stack:
        children = stack._children
        other, victim = children["strategy/runs"], children["strategy/stops"]

        def block(pid: int) -> ProcessSnapshot:
            return next(b for b in of(stack.metrics(), "strategy") if b.pid == pid)

        def latency() -> HistogramSnapshot:
            return block(other.pid).histograms["tick_to_ack_ns"]

        def consumed(pid: int) -> int:
            return block(pid).counters["ticks_consumed"] + block(pid).counters["ticks_lost"]

        stack.wait_ready()
        stack.wait(
            "ticks",
            lambda _: min(consumed(other.pid), consumed(victim.pid)) > STARTED_TICKS,
        )
        start = latency()
        time.sleep(seconds)  # measurement window
        before = latency() - start
        victim.send_signal(signal.SIGSTOP)
        try:
            start = latency()
            time.sleep(seconds)
            during = latency() - start
        finally:
            victim.send_signal(signal.SIGCONT)
        began_s = time.monotonic()
        stack.wait(
            "the stopped one to catch up",
            lambda _: consumed(victim.pid) > consumed(other.pid) - ticks_per_s,
        )
        caught_up_s = time.monotonic() - began_s
        lost = block(victim.pid).counters["ticks_lost"]
        return Measured(before, during, lost, block(other.pid).counters["ticks_lost"], caught_up_s)


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.stopped_strategy")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--policy", choices=("latest", "lossless"), default="latest")
    chosen = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        print(measure(Path(folder), chosen.seconds, chosen.policy))
    return 0


if __name__ == "__main__":
    sys.exit(main())
