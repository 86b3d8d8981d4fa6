"""Writes the results of a run: JSON with every round, a Markdown page, plots."""

import dataclasses
import json
from pathlib import Path

from tests.bench.harness import ComparisonResult, Spread, verdict
from tests.bench.model import RATE_PER_S, Comparison, Goal, Ratio

LEFT_OUT = (
    "One machine: loopback and shared memory only, no network card, no switch.",
    "Startup and the first pass over the file are not timed; the figures are of the running stack.",
    "The ticks are synthetic, with timestamps in whole seconds, spread evenly over the symbols.",
    f"Latency is measured at {RATE_PER_S:,} ticks/s, one order per tick. At loads above the "
    "capacity of a stage, queueing dominates; these figures do not cover that.",
    "CPU frequency, sleep states and the host of a virtual machine were left unchanged.",
    "Percentiles above p99 are based on few samples per round.",
)


def number(value: float) -> str:
    """Three significant digits; commas between thousands, M for millions, G for billions."""
    if abs(value) >= 1e9:
        return f"{value / 1e9:.2f} G"
    if abs(value) >= 1e6:
        return f"{value / 1e6:.3g} M"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def cell(spread: Spread | None) -> str:
    """``median (low to high)``."""
    if spread is None:
        return "-"
    if spread.runs == 1:
        return number(spread.median)
    return f"{number(spread.median)} ({number(spread.low)} to {number(spread.high)})"


def _limit(goal: Ratio | Goal) -> str:
    if goal.at_least is not None:
        return f"at least {number(goal.at_least)}"
    return f"at most {number(goal.at_most)}" if goal.at_most is not None else ""


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _figures_table(result: ComparisonResult) -> list[str]:
    figures = result.comparison.figures
    lines = [_row("", *(f"`{name}`" for name in figures)), _row("---", *("---:" for _ in figures))]
    for subject in result.subjects.values():
        if subject.absent:
            lines.append(
                _row(subject.name, f"absent: {subject.absent}", *[""] * (len(figures) - 1))
            )
        else:
            lines.append(_row(subject.name, *(cell(subject.spread(name)) for name in figures)))
    return lines


def _judged(result: ComparisonResult) -> list[tuple[str, str, Ratio | Goal, Spread | None]]:
    """Every ratio and goal that has a value: subject, figure, goal, value."""
    judged: list[tuple[str, str, Ratio | Goal, Spread | None]] = [
        (f"{ratio.of} / {ratio.to}", ratio.figure, ratio, result.ratio(ratio))
        for ratio in result.comparison.ratios
    ]
    judged += [
        (goal.of, goal.figure, goal, result.subjects[goal.of].spread(goal.figure))
        for goal in result.comparison.goals
        if goal.of in result.subjects
    ]
    return [row for row in judged if row[3] is not None]


def _judged_table(result: ComparisonResult) -> list[str]:
    rows = _judged(result)
    if not rows:
        return []
    lines = ["", _row("comparison", "figure", "median (range)", "goal", ""), _row(*["---"] * 5)]
    for what, figure, goal, spread in rows:
        lines.append(_row(what, f"`{figure}`", cell(spread), _limit(goal), verdict(goal, spread)))
    return lines


def _section(result: ComparisonResult, plot: str | None) -> list[str]:
    lines = ["", f"## {result.comparison.title}", ""]
    if result.measured:
        lines += [", ".join(f"{name}: {value}" for name, value in result.measured.items()), ""]
    lines += _figures_table(result)
    lines += _judged_table(result)
    for subject in result.subjects.values():
        lines += [f"\nFailed: {subject.name}, {failure}" for failure in subject.failures]
    if result.comparison.leaves_out:
        lines += ["", f"Note: {result.comparison.leaves_out}"]
    if plot:
        lines += ["", f"![{result.comparison.title}]({plot})"]
    return lines


def markdown(
    results: list[ComparisonResult], machine: dict[str, str], plots: dict[str, str]
) -> str:
    """The whole page."""
    lines = ["# Benchmark", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    lines += [
        "- each round runs every subject of a table once; cells are median (range); ratios are "
        "taken within a round",
        "",
        "Not covered:",
        "",
        *(f"- {text}" for text in LEFT_OUT),
    ]
    for result in results:
        lines += _section(result, plots.get(result.comparison.name))
    return "\n".join(lines) + "\n"


def as_json(
    results: list[ComparisonResult], machine: dict[str, str], quick: bool
) -> dict[str, object]:
    """All results, with every round, in a machine-readable form."""

    def values(spread: Spread | None) -> dict[str, float] | None:
        return dataclasses.asdict(spread) if spread else None

    return {
        "machine": machine,
        "quick": quick,
        "left_out": list(LEFT_OUT),
        "comparisons": {
            result.comparison.name: {
                "title": result.comparison.title,
                "left_out": result.comparison.leaves_out,
                "measured": result.measured,
                "subjects": {
                    subject.name: {
                        "absent": subject.absent,
                        "failures": subject.failures,
                        # A round that failed is null, so that the others keep their places.
                        "rounds": [
                            subject.rounds.get(number)
                            for number in range(1, max(subject.rounds, default=0) + 1)
                        ],
                    }
                    for subject in result.subjects.values()
                },
                "judged": [
                    {
                        "of": what,
                        "figure": figure,
                        "value": values(spread),
                        "goal": _limit(goal),
                        "verdict": verdict(goal, spread),
                    }
                    for what, figure, goal, spread in _judged(result)
                ],
            }
            for result in results
        },
    }


def write(
    folder: Path, results: list[ComparisonResult], machine: dict[str, str], quick: bool
) -> str:
    """Write ``results.json``, ``results.md`` and the plots; returns the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        from tests.bench.results.plots import draw

        plots = {
            result.comparison.name: draw(folder, result)
            for result in results
            if has_figures(result.comparison, result)
        }
    except ImportError:
        plots = {}
    text = markdown(results, machine, plots)
    (folder / "results.md").write_text(text)
    document = as_json(results, machine, quick)
    (folder / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    return text


def has_figures(comparison: Comparison, result: ComparisonResult) -> bool:
    """Whether there is a figure to plot."""
    return any(subject.spread(comparison.figures[0]) for subject in result.subjects.values())
