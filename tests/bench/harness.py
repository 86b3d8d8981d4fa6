"""Runs the comparisons, each subject once per round, and keeps the figures of every round."""

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.bench.model import Absent, Comparison, Context, Figures, Goal, Ratio
from tests.bench.results.progress import Progress


@dataclass(frozen=True)
class Spread:
    """Median and range over the rounds."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        """None if there are no values."""
        kept = list(values)
        if not kept:
            return None
        return cls(statistics.median(kept), min(kept), max(kept), len(kept))


@dataclass
class SubjectResult:
    """Figures by round number, or the reason why there are none."""

    name: str
    rounds: dict[int, Figures] = field(default_factory=dict)
    absent: str = ""
    failures: list[str] = field(default_factory=list)

    def spread(self, figure: str) -> Spread | None:
        """Median and range of one figure."""
        return Spread.of(run[figure] for run in self.rounds.values() if figure in run)


@dataclass
class ComparisonResult:
    """All rounds of one comparison."""

    comparison: Comparison
    subjects: dict[str, SubjectResult]
    measured: dict[str, str] = field(default_factory=dict)
    """When, at which commit, and with how many rounds; parts are measured at different times."""

    def ratio(self, ratio: Ratio) -> Spread | None:
        """Median and range of the ratios, each taken within one round."""
        if ratio.of not in self.subjects or ratio.to not in self.subjects:
            return None
        over, under = self.subjects[ratio.of].rounds, self.subjects[ratio.to].rounds
        return Spread.of(
            over[n][ratio.figure] / under[n][ratio.figure]
            for n in over.keys() & under.keys()
            if ratio.figure in over[n] and under[n].get(ratio.figure)
        )


def verdict(goal: Ratio | Goal, spread: Spread | None) -> str:
    """``met`` or ``missed``; empty if there is no goal or no measurement."""
    if spread is None or (goal.at_least is None and goal.at_most is None):
        return ""
    low_ok = goal.at_least is None or spread.median >= goal.at_least
    high_ok = goal.at_most is None or spread.median <= goal.at_most
    return "met" if low_ok and high_ok else "missed"


def run_all(
    comparisons: list[Comparison], context: Context, repeats: int, progress: Progress
) -> list[ComparisonResult]:
    """Run all rounds of each comparison; records absent subjects and failures."""
    chosen = [c for c in comparisons if c.quick or not context.quick]
    steps = sum(len(each.chosen(context.quick)) for each in chosen) * repeats
    progress.start(steps, sum(each.seconds(repeats, context.quick) for each in chosen))
    return [_run_one(comparison, context, repeats, progress) for comparison in chosen]


def _run_one(
    comparison: Comparison, context: Context, repeats: int, progress: Progress
) -> ComparisonResult:
    subjects = comparison.chosen(context.quick)
    results = {subject.name: SubjectResult(subject.name) for subject in subjects}
    for number in range(1, repeats + 1):
        for subject in subjects:
            result = results[subject.name]
            label = f"{comparison.name}: {subject.name}, round {number}/{repeats}"
            if result.absent:
                progress.step(f"{label}: absent", comparison.subject_s)
                continue
            progress.running(label)
            started = time.monotonic()
            try:
                figures = result.rounds[number] = subject.run(context)
                outcome = _headline(comparison, figures)
            except Absent as reason:
                result.absent = str(reason)
                outcome = f"absent: {reason}"
            except Exception as error:
                result.failures.append(f"round {number}: {type(error).__name__}: {error}")
                outcome = f"failed: {error}"
            line = f"{label}: {outcome} ({time.monotonic() - started:.1f} s)"
            progress.step(line, comparison.subject_s)
    return ComparisonResult(comparison, results)


def _headline(comparison: Comparison, figures: Figures) -> str:
    name = comparison.figures[0]
    return f"{name} {figures[name]:,.1f}" if name in figures else "done"
