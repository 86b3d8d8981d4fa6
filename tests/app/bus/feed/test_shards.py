"""Two shards on a real broker trade as one machine does, whatever dies meanwhile."""

import os
import random
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.app.bus.feed.running import SHARDS, Feed, kill
from tests.app.bus.feed.trades import PATIENCE_S, check_all, end_receiver, finish, same
from tests.support.bus.broker import Cluster, cluster
from tests.support.children import eventually
from tests.support.paths import SHARED_DATA

pytestmark = pytest.mark.medium


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shards"),
    [
        ("equity_1min_3sym_utc.csv", {"a": ["AAPL", "TSLA"], "b": ["GOOGL"]}),
        ("binance_spot_2sym_iso_ms_Z.csv", {"a": ["BTCUSDT"], "b": ["ETHUSDT"]}),
        ("binance_spot_2sym_epoch_ns.csv", {"a": ["ETHUSDT"], "b": ["BTCUSDT"]}),
        ("wiki_daily_5sym_2000_2013.csv", {"a": ["AAPL", "GOOG"], "b": ["FB", "IBM", "MSFT"]}),
    ],
)
def test_real_files_over_three_brokers(
    tmp_path: Path, name: str, shards: dict[str, list[str]]
) -> None:
    data = SHARED_DATA / name
    if not data.exists():
        pytest.skip(f"{data} is not here; TRADING_SHARED_DATA names its folder")
    with ExitStack() as ends:
        feed = Feed(tmp_path, ends.enter_context(cluster(3)), data_path=data)
        ends.callback(feed.close)
        feed.write_map({"version": 1, "shards": shards})
        stacks = {shard: ends.enter_context(feed.stack(shard)) for shard in shards}
        assert feed.sequence() == 0, feed.log
        outcomes = finish(stacks)
    check_all(outcomes, tmp_path, data, shards)
