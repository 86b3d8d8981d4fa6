"""Results of earlier runs: the parts of the benchmark are run one at a time, and shown as one."""

import json
from pathlib import Path

from tests.bench.harness import ComparisonResult, SubjectResult
from tests.bench.model import Comparison

SAME = ("machine", "kernel", "python", "order store on")
"""What has to be the same for figures to stand side by side."""


def merge(
    folder: Path,
    known: list[Comparison],
    fresh: list[ComparisonResult],
    machine: dict[str, str],
    quick: bool,
) -> list[ComparisonResult]:
    """The new results and, of comparisons that were not run, those of before, in their order.

    Results of another machine, of a comparison with other subjects (another version of a peer, for
    example), or of a quick run beside those of a full one, are dropped.
    """
    found = {each.comparison.name: each for each in _read(folder, known, machine, quick)}
    found |= {each.comparison.name: each for each in fresh}
    return [found[each.name] for each in known if each.name in found] + [
        each for name, each in found.items() if name not in {one.name for one in known}
    ]


def _read(
    folder: Path, known: list[Comparison], machine: dict[str, str], quick: bool
) -> list[ComparisonResult]:
    try:
        before = json.loads((folder / "results.json").read_text())
        if before["quick"] != quick or any(
            before["machine"].get(name) != machine.get(name) for name in SAME
        ):
            return []
        kept = before["comparisons"]
        found = [_result(each, kept[each.name]) for each in known if each.name in kept]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []  # There is none, or it is of another version of the benchmark.
    return [each for each in found if each is not None]


def _result(comparison: Comparison, kept: dict[str, object]) -> ComparisonResult | None:
    """One comparison as it was stored; None if it had other subjects."""
    subjects = kept["subjects"]
    assert isinstance(subjects, dict)
    if not subjects.keys() <= {each.name for each in comparison.subjects}:
        return None
    results = {
        name: SubjectResult(
            name,
            {n: figures for n, figures in enumerate(each["rounds"], 1) if figures is not None},
            each["absent"],
            each["failures"],
        )
        for name, each in subjects.items()
    }
    return ComparisonResult(comparison, results, dict(kept["measured"]))  # type: ignore[call-overload]
