"""Two shards on a real broker trade as one machine does, whatever dies meanwhile."""

import csv
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.backtest import replay as backtest
from app.backtest.outcome import Outcome, of_backtest
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from tests.app.bus.feed.running import SAMPLE, SHARDS, Feed, kill
from tests.chaos.host import HostStack
from tests.support.bus.broker import Cluster, cluster
from tests.support.children import eventually

pytestmark = pytest.mark.medium

PATIENCE_S = 90.0


@pytest.fixture
def broker() -> Iterator[Cluster]:
    with cluster(1) as made:
        yield made


@pytest.fixture
def feed(broker: Cluster, tmp_path: Path) -> Iterator[Feed]:
    made = Feed(tmp_path, broker)
    yield made
    made.close()


def of_file(path: Path) -> Outcome:
    """What one machine does with a file."""
    settings = Settings(data_path=str(path), replay="once")
    return of_backtest(backtest.run(settings, open_feed(settings)))


def file_of(shard: str, folder: Path) -> tuple[Path, list[int]]:
    """The sample file's rows of a shard, with the sentiment of the whole; and their numbers."""
    settings = Settings(data_path=str(SAMPLE), replay="once")
    frames, due = open_feed(settings).sentiments_due(0, 30_000)
    moods = dict(zip(due.tolist(), frames.split(b"*")[2::3], strict=True))
    rows, numbers = [], []
    with SAMPLE.open() as file:
        for seq, row in enumerate(list(csv.reader(file))[1:]):
            if row[1] in SHARDS[shard]:
                rows.append([*row, moods.get(seq, b"").decode()])
                numbers.append(seq)
    path = folder / f"rows-{shard}.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["timestamp", "symbol", "price", "sentiment"], *rows])
    return path, numbers


def same(found: Outcome, wanted: Outcome) -> None:
    """Every order, fill and position, whatever the name of the client."""
    for lines in ("orders", "fills", "positions"):
        named = [getattr(each, lines) for each in (found, wanted)]
        bare = [[line._replace(client="") for line in each] for each in named]
        assert bare[0] == bare[1], lines
        assert bare[0]


def check_all(outcomes: dict[str, Outcome], folder: Path) -> None:
    """Shard by shard as a run on the shard's symbols, and in sum as a run on all."""
    whole = of_file(SAMPLE)
    orders, positions = [], []
    for shard, outcome in outcomes.items():
        path, numbers = file_of(shard, folder)
        same(outcome, of_file(path))
        orders += [
            line._replace(client="", tick=numbers[line.tick], ts=None) for line in outcome.orders
        ]
        positions += [line._replace(client="") for line in outcome.positions]
    wanted = [line._replace(client="", ts=None) for line in whole.orders]
    assert sorted(orders, key=lambda line: line.tick) == wanted
    assert len(wanted) > 500
    by_symbol = sorted((line._replace(client="") for line in whole.positions), key=str)
    assert sorted(positions, key=str) == by_symbol


def finish(stacks: dict[str, HostStack]) -> dict[str, Outcome]:
    """Wait until each run is over; what the stores have."""
    for stack in stacks.values():
        assert stack.wait(PATIENCE_S) == 0, stack.tail()
    return {shard: stack.outcome() for shard, stack in stacks.items()}


def test_two_shards_trade_as_one_machine(feed: Feed, tmp_path: Path) -> None:
    """The stacks wait for the run; it ends by itself, and the proof of each shard agrees."""
    with ExitStack() as open_stacks:
        stacks = {shard: open_stacks.enter_context(feed.stack(shard)) for shard in SHARDS}
        assert feed.sequence() == 0, feed.log
        outcomes = finish(stacks)
        for stack in stacks.values():
            compared = stack.command("compare")
            assert compared.returncode == 0, compared
            assert compared.stdout.startswith("equal: ")
    check_all(outcomes, tmp_path)


@pytest.mark.slow
def test_two_shards_trade_as_one_machine_whatever_is_killed(
    feed: Feed, broker: Cluster, tmp_path: Path
) -> None:
    """Gateways, all other processes, their receivers, the sequencer, and the broker."""
    numbers = random.Random(int(os.environ.get("CHAOS_SEED", "1")))
    processes = ("gateway", "strategy", "orderbook", "order_manager", "receiver")
    with ExitStack() as open_stacks:
        stacks = {shard: open_stacks.enter_context(feed.stack(shard)) for shard in SHARDS}
        sequencer = feed.start(pace="1500/s")
        for stack in stacks.values():
            stack.wait_ready()
        for _ in range(14):
            victim = numbers.choice([*processes, *processes, "sequencer", "broker"])
            shard = numbers.choice(sorted(SHARDS))
            if victim == "sequencer":
                kill(sequencer)
                sequencer = feed.start(pace="1500/s")
            elif victim == "broker":
                broker.brokers[0].restart()
                broker.wait_ready()
            elif victim == "receiver":
                end_receiver(stacks[shard])
            else:
                stacks[shard].signal(victim, signal.SIGKILL)
            time.sleep(numbers.uniform(0.2, 1.5))
        assert sequencer.wait(PATIENCE_S) == 0, feed.log
        outcomes = finish(stacks)
    check_all(outcomes, tmp_path)


def end_receiver(stack: HostStack) -> None:
    """SIGKILL to the process that reads the bus for a gateway."""
    gateway = stack.pid_of("gateway")
    if gateway is None:
        return
    for pid in Path(f"/proc/{gateway}/task/{gateway}/children").read_text().split():
        os.kill(int(pid), signal.SIGKILL)


@pytest.mark.slow
def test_a_replay_over_a_move_has_the_same_orders(feed: Feed) -> None:
    """A symbol moves while two shards run; stacks that read the streams later do the same."""
    with ExitStack() as open_stacks:
        stacks = {shard: open_stacks.enter_context(feed.stack(shard)) for shard in SHARDS}
        sequencer = feed.start(pace="3000/s")
        eventually(lambda: feed.count("a") > 20, "it publishes", 30)
        assert feed.move("KO", "b").returncode == 0
        eventually(lambda: "map_holds version=2" in feed.log, "it is decided", 30)
        assert sequencer.wait(PATIENCE_S) == 0, feed.log
        moved = finish(stacks)
        for stack in stacks.values():
            assert "bus_map version=2" in stack.log_path.read_text()
    # The old shard keeps what it holds; the new one begins with the symbol as with a new one.
    sides = {shard: [o for o in moved[shard].orders if o.symbol == "KO"] for shard in SHARDS}
    assert sides["a"]
    assert sides["b"]
    with ExitStack() as open_stacks:
        stacks = {
            shard: open_stacks.enter_context(feed.stack(shard, f"again-{shard}", run_id="again"))
            for shard in SHARDS
        }
        again = finish(stacks)
    for shard in SHARDS:
        same(again[shard], moved[shard])


@pytest.mark.slow
def test_a_gateway_says_what_is_wrong_with_a_stream(feed: Feed) -> None:
    """A run that is given up before its end stops its shards, with the reason."""
    sequencer = feed.start(pace="500/s", run_id="one")
    with feed.stack("a") as stack:
        stack.wait_ready()
        kill(sequencer)
        sequencer = feed.start("--give-up", "one", pace="500/s", run_id="two")
        stack.wait_until(
            "the gateway says so",
            lambda: "run two begins at message" in stack.log_path.read_text(),
            PATIENCE_S,
        )
        assert stack.wait(PATIENCE_S) != 0
    with feed.stack("a", "named", data_path="nats://md.a/two") as stack:
        stack.wait_ready()
        stack.wait_until("it follows", lambda: stack.counter("gateway", "ticks_sent") > 20, 30)
