"""``python -m tests.bench``: measure and write the report."""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.bench import machine, report
from tests.bench.cases import all_comparisons
from tests.bench.harness import run_all
from tests.bench.model import Comparison, Context
from tests.bench.progress import choose_progress
from tests.support.paths import ROOT

REPEATS, QUICK_REPEATS = 5, 2


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the essentials, in about a minute")
    parser.add_argument("--only", action="append", metavar="NAME", help="only these comparisons")
    parser.add_argument("--repeats", type=int, help=f"rounds ({REPEATS}, quick {QUICK_REPEATS})")
    parser.add_argument("--list", action="store_true", help="list the comparisons and exit")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "data/out/bench", help="where the report goes"
    )
    return parser.parse_args(argv)


def _choose(names: list[str] | None) -> list[Comparison]:
    """All comparisons, or those whose names begin with one of ``names``."""
    known = all_comparisons()
    if not names:
        return known
    for name in names:
        if not any(each.name.startswith(name) for each in known):
            raise SystemExit(f"--only {name}: unknown; known: {', '.join(c.name for c in known)}")
    return [each for each in known if each.name.startswith(tuple(names))]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; 0 if every subject ran or is absent, 1 if one failed."""
    arguments = _arguments(argv)
    comparisons = _choose(arguments.only)
    if arguments.list:
        print("\n".join(f"{each.name:<18} {each.title}" for each in comparisons))
        return 0
    repeats = arguments.repeats or (QUICK_REPEATS if arguments.quick else REPEATS)
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
    print("\n" + report.write(arguments.out, results, where, repeats))
    print(f"written to {arguments.out}: results.md, results.json, plots")
    failed = [s.name for r in results for s in r.subjects.values() if s.failures]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
