"""Measures replays of large files: ``python -m tests.bench.large_files FILE ...``.

One line for each file and way: peak resident size, seconds until the first tick, ticks a second.
"""

import argparse
import os
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from tests.support.feed_helpers import make_settings
from tests.support.large.replays import Replay, in_backtest, in_gateway, in_stack

WAYS = ("gateway", "backtest", "stack")


def measure(path: Path, way: str) -> Replay:
    """Replay the file once."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        fixed = {"data_path": str(path.resolve()), "output_dir": folder}
        name = f"large_files_{uuid.uuid4().hex}"
        environ = (
            os.environ | make_settings(**fixed, log_level="INFO", shm_metrics=name).to_environ()
        )
        found: dict[str, Callable[[], Replay]] = {
            "gateway": lambda: in_gateway(environ),
            "backtest": lambda: in_backtest(environ, Path(folder)),
            "stack": lambda: in_stack({"data_path": fixed["data_path"]}, Path(folder)),
        }
        try:
            return found[way]()
        finally:
            for segment in Path("/dev/shm").glob(f"{name}*"):
                segment.unlink(missing_ok=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.large_files", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--only", action="append", choices=WAYS, help="only these")
    chosen = parser.parse_args()
    print(
        f"{'file':20} {'replayed in':11} {'ticks':>12} {'MB peak':>8} {'s load':>7} {'ticks/s':>12}"
    )
    for path in chosen.files:
        for way in chosen.only or WAYS:
            each = measure(path, way)
            print(
                f"{path.name:20} {way:11} {each.ticks:12,} {each.peak_bytes / 1e6:8.0f} "
                f"{each.load_s:7.1f} {each.ticks / each.replay_s:12,.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
