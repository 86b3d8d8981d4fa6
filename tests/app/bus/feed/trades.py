"""What two shards have traded, beside what one machine does with the same file."""

import csv
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from app.backtest import replay as backtest
from app.backtest.outcome import Outcome, of_backtest
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from tests.app.bus.feed.running import SAMPLE, SHARDS
from tests.chaos.host import HostStack

PATIENCE_S = 90.0


def of_file(path: Path) -> Outcome:
    """What one machine does with a file."""
    settings = Settings(data_path=str(path), replay="once")
    return of_backtest(backtest.run(settings, open_feed(settings)))


def file_of(data: Path, symbols: list[str], path: Path) -> list[int]:
    """Write a file's rows of these symbols, with the sentiment of the whole; their numbers."""
    feed = open_feed(Settings(data_path=str(data), replay="once"))
    frames, due = feed.sentiments_due(0, feed.ticks_of_run(None))
    moods = dict(zip(due.tolist(), frames.split(b"*")[2::3], strict=True))
    rows, numbers = [], []
    with data.open() as file:
        for seq, row in enumerate(list(csv.reader(file))[1:]):
            if row[1] in symbols:
                rows.append([*row, moods.get(seq, b"").decode()])
                numbers.append(seq)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["timestamp", "symbol", "price", "sentiment"], *rows])
    return numbers


def same(found: Outcome, wanted: Outcome) -> None:
    """Every order, fill and position, whatever the name of the client."""
    for lines in ("orders", "fills", "positions"):
        named = [getattr(each, lines) for each in (found, wanted)]
        bare = [[line._replace(client="") for line in each] for each in named]
        assert bare[0] == bare[1], lines
        assert bare[0]


def check_all(
    outcomes: dict[str, Outcome],
    folder: Path,
    data: Path = SAMPLE,
    shards: Mapping[str, list[str]] = MappingProxyType(SHARDS),
) -> None:
    """Shard by shard as a run on the shard's symbols, and in sum as a run on all."""
    whole = of_file(data)
    orders, positions = [], []
    for shard, outcome in outcomes.items():
        path = folder / f"rows-{shard}.csv"
        numbers = file_of(data, shards[shard], path)
        same(outcome, of_file(path))
        orders += [
            line._replace(client="", tick=numbers[line.tick], ts=None) for line in outcome.orders
        ]
        positions += [line._replace(client="") for line in outcome.positions]
    wanted = [line._replace(client="", ts=None) for line in whole.orders]
    assert sorted(orders, key=lambda line: line.tick) == wanted
    assert len(wanted) > (500 if data == SAMPLE else 50)
    by_symbol = sorted((line._replace(client="") for line in whole.positions), key=str)
    assert sorted(positions, key=str) == by_symbol


def finish(stacks: dict[str, HostStack]) -> dict[str, Outcome]:
    """Wait until each run is over; what the stores have."""
    for stack in stacks.values():
        assert stack.wait(PATIENCE_S) == 0, stack.tail()
    return {shard: stack.outcome() for shard, stack in stacks.items()}


def end_receiver(stack: HostStack) -> None:
    """SIGKILL to the process that reads the bus for a gateway."""
    gateway = stack.pid_of("gateway")
    if gateway is None:
        return
    for pid in Path(f"/proc/{gateway}/task/{gateway}/children").read_text().split():
        os.kill(int(pid), signal.SIGKILL)
