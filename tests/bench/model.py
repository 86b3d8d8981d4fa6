"""The types of the benchmark: a subject is run, returns figures, and is compared with others."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

POINTS = (
    ("p1", 1.0), ("p10", 10.0), ("p25", 25.0), ("p50", 50.0), ("p75", 75.0), ("p90", 90.0),
    ("p95", 95.0), ("p99", 99.0), ("p99_9", 99.9), ("max", 100.0),
)  # fmt: skip
"""The percentiles reported for every latency; ``floor.c`` has the same."""

RATE_PER_S = 2000
WARMUP_TICKS = 200

Figures = dict[str, float]
"""Figure name, unit last (``ticks_per_s``, ``recv_to_ack_us_p50``), to value."""


class Absent(Exception):
    """The subject cannot run here; the text is the reason.  It is reported as absent."""


@dataclass(frozen=True)
class Placement:
    """A CPU list, as in ``taskset -c``, for each of the four processes; empty: any CPU."""

    name: str
    gateway: str = ""
    orderbook: str = ""
    strategy: str = ""
    order_manager: str = ""

    @property
    def lists(self) -> tuple[str, str, str, str]:
        """In data order: gateway, orderbook, strategy, order manager."""
        return self.gateway, self.orderbook, self.strategy, self.order_manager

    @property
    def cpus(self) -> str:
        """The same as the option ``cpus`` of the floor."""
        return "/".join(self.lists)


ANYWHERE = Placement("unpinned")


def placements() -> list[Placement]:
    """Unpinned; neighbors on different cores; all on one core."""
    cpus = sorted(os.sched_getaffinity(0))
    first, last = str(cpus[0]), str(cpus[-1])
    found = [ANYWHERE, Placement("one-core", last, last, last, last)]
    if len(cpus) > 1:
        found.insert(1, Placement("spread", first, last, first, last))
    return found


@dataclass(frozen=True)
class Context:
    """Length of a run, and where its files go."""

    quick: bool
    data_dir: Path
    """Seeded input, kept between runs."""
    work_dir: Path
    """Temporary files of this run, on the disk that the order store would use."""

    @property
    def seconds(self) -> float:
        """Length of one measurement."""
        return 0.5 if self.quick else 1.0

    @property
    def latency_ticks(self) -> int:
        """Ticks of one latency run, warm-up included."""
        return WARMUP_TICKS + int(RATE_PER_S * self.seconds)

    def scaled(self, count: int) -> int:
        """``count`` messages in a full run, a third of them in a quick one."""
        return count // 3 if self.quick else count


@dataclass(frozen=True)
class Subject:
    """One thing that is measured; each run returns figures."""

    name: str
    run: Callable[[Context], Figures]
    quick: bool = True
    """Whether it is part of the quick benchmark."""


@dataclass(frozen=True)
class Ratio:
    """A figure of one subject divided by that of another in the same round; optional goal."""

    figure: str
    of: str
    to: str
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True)
class Goal:
    """A goal for the median of a figure."""

    figure: str
    of: str
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Subjects that are run in turn (A B A B) and compared with each other."""

    name: str
    title: str
    subjects: tuple[Subject, ...]
    figures: tuple[str, ...]
    """The table's columns, the most important first."""
    ratios: tuple[Ratio, ...] = ()
    goals: tuple[Goal, ...] = ()
    plot: str = "bars"
    """``bars`` of the first figure, or ``percentiles`` of the latency whose p50 it is."""
    leaves_out: str = ""
    quick: bool = True
    subject_s: float = 2.5
    """About how long a subject takes in a round on two cores: for the time that is left."""

    def chosen(self, quick: bool) -> list[Subject]:
        """The subjects that are run."""
        return [subject for subject in self.subjects if subject.quick or not quick]

    def seconds(self, repeats: int, quick: bool = False) -> float:
        """About how long all rounds take."""
        return self.subject_s * len(self.chosen(quick)) * repeats


@dataclass(frozen=True)
class Part:
    """Comparisons that are run together: ``make bench PART=name``."""

    name: str
    title: str
    comparisons: tuple[Comparison, ...]


def percentiles_us(name: str, values_ns: list[int]) -> Figures:
    """``{name}_us_p50`` and so on from nanoseconds, by nearest rank."""
    ordered = sorted(values_ns)
    last = len(ordered) - 1
    ranks = {point: math.ceil(at / 100 * len(ordered)) - 1 for point, at in POINTS}
    return {f"{name}_us_{p}": ordered[min(max(rank, 0), last)] / 1e3 for p, rank in ranks.items()}
