"""``python -m tests.bench``: measure and write the report."""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from app.kernel.compiled import warning
from tests.bench.cases import all_comparisons, parts
from tests.bench.harness import run_all
from tests.bench.model import Comparison, Context
from tests.bench.results import machine, report
from tests.bench.results.progress import choose_progress
from tests.bench.results.stored import merge
from tests.support.paths import ROOT

REPEATS, QUICK_REPEATS = 5, 2
EXIT_NOT_COMPILED = 2


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the essentials, in about a minute")
    parser.add_argument("--part", action="append", metavar="NAME", help="only these parts")
    parser.add_argument("--only", action="append", metavar="NAME", help="only these comparisons")
    parser.add_argument("--repeats", type=int, help=f"rounds ({REPEATS}, quick {QUICK_REPEATS})")
    parser.add_argument("--list", action="store_true", help="list parts and comparisons, and exit")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "data/out/bench", help="where the report goes"
    )
    return parser.parse_args(argv)


def _choose(names: list[str] | None, wanted: list[str] | None) -> list[Comparison]:
    """Those of these parts, and those whose names begin with one of ``names``; by default all."""
    known, by_name = all_comparisons(), {part.name: part for part in parts()}
    if not names and not wanted:
        return known
    for name in wanted or ():
        if name not in by_name:
            raise SystemExit(f"--part {name}: unknown; known: {', '.join(by_name)}")
    for name in names or ():
        if not any(each.name.startswith(name) for each in known):
            raise SystemExit(f"--only {name}: unknown; known: {', '.join(c.name for c in known)}")
    of_parts = {each.name for name in wanted or () for each in by_name[name].comparisons}
    return [e for e in known if e.name in of_parts or e.name.startswith(tuple(names or ()))]


def _listed(repeats: int) -> str:
    """The parts with the time that they take on two cores, and what they compare."""
    lines = []
    for part in parts():
        minutes = sum(each.seconds(repeats) for each in part.comparisons) / 60
        lines.append(f"{part.name:<14} {minutes:3.0f} min  {part.title}")
        lines += [f"    {each.name:<17} {each.title}" for each in part.comparisons]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; 0 if every subject ran or is absent, 1 if one failed.

    2: nothing is compiled, and figures of that would be taken for the stack's.
    """
    arguments = _arguments(argv)
    comparisons = _choose(arguments.only, arguments.part)
    repeats = arguments.repeats or (QUICK_REPEATS if arguments.quick else REPEATS)
    if arguments.list:
        print(_listed(repeats))
        return 0
    if problem := warning():
        print(f"bench: {problem}", file=sys.stderr)
        return EXIT_NOT_COMPILED
    data_dir = Path(tempfile.gettempdir()) / f"trading-stack-bench-{os.getuid()}"
    work_dir = arguments.out / "work"
    work_dir.mkdir(parents=True, exist_ok=True)
    context = Context(arguments.quick, data_dir, work_dir)
    where = machine.describe(work_dir)
    try:
        with choose_progress() as progress:
            results = run_all(comparisons, context, repeats, progress)
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(work_dir, ignore_errors=True)
    for each in results:
        each.measured = {name: where[name] for name in ("date", "commit", "load before")}
        each.measured["rounds"] = str(repeats)
    whole = merge(arguments.out, all_comparisons(), results, where, arguments.quick)
    print("\n" + report.write(arguments.out, whole, where, arguments.quick))
    print(f"written to {arguments.out}: results.md, results.json, plots")
    failed = [s.name for r in results for s in r.subjects.values() if s.failures]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
