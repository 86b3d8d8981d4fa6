"""Chaos on the whole cluster on this host: ``python -m tests.app.bus.chaos --runs 50 --seed 1``.

Run ``i`` has the seed ``seed + i``.  A run that fails keeps its folder.
"""

import argparse
import shutil
import tempfile
import time
import traceback
from pathlib import Path

from tests.app.bus.chaos.whole import Whole


def main() -> int:
    """Run and print a line for each; 1 if any has failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=8)
    options = parser.parse_args()
    failed = 0
    for seed in range(options.seed, options.seed + options.runs):
        folder = Path(tempfile.mkdtemp(prefix=f"trading-cluster-{seed}-"))
        started_s, whole = time.monotonic(), Whole(folder, seed)
        try:
            with whole:
                whole.inject(whole.draw(options.faults))
                found = whole.check()
        except Exception:
            failed += 1
            print(f"seed {seed}: FAILED, {' '.join(whole.done)}, files in {folder}", flush=True)
            traceback.print_exc()
            continue
        took_s = time.monotonic() - started_s
        counts = f"{found['orders']} orders, {found['fills']} fills"
        print(f"seed {seed}: equal, {counts}, {took_s:.0f} s: {' '.join(whole.done)}", flush=True)
        shutil.rmtree(folder)
    print(f"{options.runs - failed} of {options.runs} equal", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
