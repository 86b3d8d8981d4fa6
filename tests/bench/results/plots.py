"""One SVG for each comparison: bars with ranges, or latency by percentile."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from tests.bench.harness import ComparisonResult
from tests.bench.model import POINTS

COLORS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0")
# Reproducible: the same figures give the same file.
plt.rcParams.update({"svg.hashsalt": "bench", "font.size": 9, "axes.titlesize": 10})


def draw(folder: Path, result: ComparisonResult) -> str:
    """Draw the plot of a comparison; returns its file name in ``folder``."""
    height = 1.2 + 0.4 * len(result.subjects) if result.comparison.plot == "bars" else 4.0
    figure, axes = plt.subplots(figsize=(8, height), layout="constrained")
    if result.comparison.plot == "bars":
        _bars(axes, result)
    else:
        _percentiles(axes, result)
    axes.set_title(result.comparison.title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    name = f"{result.comparison.name}.svg"
    figure.savefig(folder / name, metadata={"Date": None})
    plt.close(figure)
    return name


def _label(value: float) -> str:
    if value >= 1e6:
        return f" {value / 1e6:.3g} M"
    return f" {value:,.0f}" if value >= 100 else f" {value:.3g}"


def _bars(axes: Axes, result: ComparisonResult) -> None:
    figure = result.comparison.figures[0]
    found = [(s.name, spread) for s in result.subjects.values() if (spread := s.spread(figure))]
    names = [name for name, _ in found]
    medians = [spread.median for _, spread in found]
    below = [spread.median - spread.low for _, spread in found]
    above = [spread.high - spread.median for _, spread in found]
    axes.barh(names, medians, xerr=[below, above], color=COLORS[0], ecolor="#555", capsize=2)
    for row, (_, spread) in enumerate(found):
        axes.text(spread.high, row, _label(spread.median), va="center")
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.set_xlabel(figure)


def _percentiles(axes: Axes, result: ComparisonResult) -> None:
    base = result.comparison.figures[0].removesuffix("_p50")
    ticks = range(len(POINTS))
    for color, subject in zip(COLORS * 2, result.subjects.values(), strict=False):
        spreads = [subject.spread(f"{base}_{point}") for point, _ in POINTS]
        if not all(spreads):
            continue
        kept = [spread for spread in spreads if spread]
        axes.plot(ticks, [s.median for s in kept], color=color, label=subject.name, marker=".")
        low, high = [s.low for s in kept], [s.high for s in kept]
        axes.fill_between(ticks, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set_yscale("log")
    axes.set_xticks(ticks, [point.replace("_", ".") for point, _ in POINTS])
    axes.set_ylabel(f"{base} (µs)")
    axes.grid(axis="y", color="#ddd")
    axes.legend(frameon=False)
