"""The sequencer on a real broker: what is in the streams, whatever happens to it."""

import csv
import random
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import nats.errors
import nats.js.errors
import pytest

from app.bus.feed import commands
from app.bus.link.connection import BusUnavailable
from app.market_data.live.bus.batch import SEQUENCER, Kind
from tests.app.bus.feed.running import SAMPLE, SHARDS, Feed, frames, kill
from tests.support.bus.broker import Cluster, cluster
from tests.support.children import eventually

pytestmark = pytest.mark.medium

SLOW = "200/s"
"""150 s of feed: its end comes after all that is done to it, on a loaded machine too."""
LOST = (BusUnavailable, nats.errors.Error, nats.js.errors.Error, TimeoutError)
"""What asking servers may end with that are choosing a leader."""


def of_file(
    shard: str,
    moves: dict[int, tuple[str, str]] | None = None,
    shards: Mapping[str, Sequence[str]] = MappingProxyType(SHARDS),
) -> bytes:
    """The frames of the sample file that a shard must have; ``moves``: tick -> symbol, shard."""
    holds = {symbol: name for name, symbols in shards.items() for symbol in symbols}
    found = []
    with SAMPLE.open() as file:
        for seq, row in enumerate(csv.reader(list(file)[1:])):
            if moves and seq in moves:
                holds[moves[seq][0]] = moves[seq][1]
            if holds[row[1]] == shard:
                found.append(f"{row[0]}*{row[1]}*{row[2]}*".encode())
    return b"".join(found)


def test_every_shard_has_its_ticks_once_and_a_second_run_of_the_command_adds_nothing(
    feed: Feed,
) -> None:
    assert feed.sequence() == 0, feed.log
    counts = {}
    for shard in SHARDS:
        messages = feed.messages(shard)
        assert frames(messages) == of_file(shard)
        assert [message.kind for message, _ in messages[:1]] == [Kind.BEGIN]
        assert messages[-1][0].kind is Kind.END
        counts[shard] = len(messages)
    assert feed.sequence() == 0
    assert {shard: feed.count(shard) for shard in SHARDS} == counts


def stop(process: subprocess.Popen[str], feed: Feed) -> None:
    """End a sequencer that still runs."""
    assert process.poll() is None, feed.log
    process.terminate()
    assert process.wait(30) == 0, feed.log


@pytest.mark.slow
def test_a_killed_sequencer_goes_on_where_the_streams_end(feed: Feed) -> None:
    """Also if it is killed while it waits, and if one shard is behind the other."""
    numbers = random.Random(5)
    for _ in range(4):
        process = feed.start(pace=SLOW)
        before = feed.count("a")
        eventually(lambda before=before: feed.count("a") > before + 20, "it publishes", 30)
        kill(process)
        numbers.random()
    assert feed.sequence() == 0, feed.log
    for shard in SHARDS:
        messages = feed.messages(shard)
        assert frames(messages) == of_file(shard)
        assert len({headers.get(SEQUENCER) for _, headers in messages}) >= 4


@pytest.mark.slow
def test_of_two_sequencers_one_gives_way(feed: Feed) -> None:
    """A process that was frozen, and replaced, cannot add a tick; it says so and ends."""
    first = feed.start(pace=SLOW)
    eventually(lambda: feed.count("a") > 20, "the first publishes", 30)
    first.send_signal(signal.SIGSTOP)
    second = feed.start(pace=SLOW)
    at = feed.count("a")
    eventually(lambda: feed.count("a") > at + 20, "the second publishes", 30)
    first.send_signal(signal.SIGCONT)
    assert first.wait(30) == 1
    assert "publishes there now, and this one" in feed.log
    kill(second)
    assert feed.sequence() == 0
    for shard in SHARDS:
        assert frames(feed.messages(shard)) == of_file(shard)


@pytest.mark.slow
def test_the_broker_dies_and_comes_back(feed: Feed, broker: Cluster) -> None:
    process = feed.start(pace=SLOW)
    for fault in range(4):
        before = feed.count("a")
        eventually(lambda before=before: feed.count("a") > before + 20, "it publishes", 30)
        if fault < 3:
            broker.brokers[0].restart()
            broker.wait_ready()
    stop(process, feed)
    assert "sequencer_lost" in feed.log
    assert feed.sequence() == 0, feed.log
    for shard in SHARDS:
        assert frames(feed.messages(shard)) == of_file(shard)


@pytest.mark.slow
def test_a_symbol_moves_while_the_feed_runs(feed: Feed) -> None:
    """The stream has the tick from which it is elsewhere; kills around it change nothing."""
    process = feed.start(pace=SLOW)
    eventually(lambda: feed.count("a") > 20, "it publishes", 30)
    moved = feed.move("KO", "b")
    assert moved.returncode == 0, moved
    assert moved.stdout.startswith("map version 2: KO from shard a to b, from the next batch on")
    eventually(lambda: "map_holds" in feed.log, "the move is decided", 30)
    kill(process)
    process = feed.start(pace=SLOW)
    # Before its first tick the second move would hold from the same tick on as the first.
    before = feed.count("a")
    eventually(lambda: feed.count("a") > before + 20, "it publishes again", 30)
    assert feed.move("JPM", "a").returncode == 0
    eventually(lambda: 3 in {each.version for each in feed.maps().starts}, "it is decided", 30)
    stop(process, feed)
    assert feed.sequence() == 0, feed.log
    starts = {each.version: each.at for each in feed.maps().starts}
    assert sorted(starts) == [1, 2, 3]
    assert 0 < starts[2] < starts[3] < 30_000
    moves = {starts[2]: ("KO", "b"), starts[3]: ("JPM", "a")}
    for shard in SHARDS:
        messages = feed.messages(shard)
        assert frames(messages) == of_file(shard, moves)
        marks = [message.map_version for message, _ in messages if message.kind is Kind.MAP]
        assert marks == [2, 3]


def test_without_a_map_symbols_are_dealt_out_and_a_shard_can_come_later(feed: Feed) -> None:
    """It begins empty; then symbols move to it, and the streams have the whole feed once."""
    nothing = {"pace": SLOW, "shard_map": "", "run_dir": feed.folder}
    stop(start_until_ticks(feed, "--shards", "a", "b", **nothing), feed)
    assert (feed.folder / "sequencer_alive").exists()
    dealt = feed.maps().maps[1].shards
    process = start_until_ticks(feed, "--shards", "a", "b", "c", **nothing)
    eventually(lambda: feed.count("c") == 1, "the run has begun on c", 30)
    assert feed.move("KO", "c").returncode == 0
    eventually(lambda: 3 in {each.version for each in feed.maps().starts}, "it is decided", 30)
    kill(process)
    assert feed.sequence("--shards", "a", "b", "c", shard_map="") == 0, feed.log
    starts = {each.version: each.at for each in feed.maps().starts}
    assert 0 < starts[2] <= starts[3] < 30_000
    for shard in ("a", "b", "c"):
        messages = feed.messages(shard)
        wanted = of_file(shard, {starts[3]: ("KO", "c")}, dealt)
        assert frames(messages) == wanted
        assert [messages[0][0].kind, messages[-1][0].kind] == [Kind.BEGIN, Kind.END]
        marks = [message.map_version for message, _ in messages if message.kind is Kind.MAP]
        assert marks == ([3] if shard == "c" else [2, 3])
    assert len(of_file("c", {starts[3]: ("KO", "c")}, dealt)) > 1000


def refused(feed: Feed, capfd: pytest.CaptureFixture[str], *arguments: str, **more: object) -> str:
    """What a sequencer says that cannot do its work; in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (feed.environ | {n.upper(): str(v) for n, v in more.items()}).items():
            patch.setenv(name, value)
        capfd.readouterr()
        handlers = [(each, signal.getsignal(each)) for each in (signal.SIGINT, signal.SIGTERM)]
        try:
            assert commands.sequence(*arguments) in (1, 2)
        finally:
            for number, handler in handlers:
                signal.signal(number, handler)
    out, err = capfd.readouterr()
    return out + err


def start_until_ticks(feed: Feed, *arguments: str, **settings: object) -> subprocess.Popen[str]:
    """A sequencer that has published a little more."""
    before = feed.count("a")
    process = feed.start(*arguments, **settings)
    eventually(lambda: feed.count("a") > before + 5, "it publishes", 30)
    return process


def test_what_it_will_not_do_is_said_in_one_line(
    feed: Feed, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "SHARD_MAP=: required here" in refused(feed, capfd, shard_map="")
    live = refused(feed, capfd, data_path="wss://example.org", live_symbols="F", replay="walk")
    assert "the sequencer reads files" in live
    feed.write_map({"version": 1, "shards": {"a": SHARDS["a"]}})
    text = refused(feed, capfd)
    assert "AAPL and 4 more: in the data, on no shard" in text or "JPM and 4 more" in text
    assert "has the shards a, and there are a, b" in refused(feed, capfd, "--shards", "a", "b")
    assert "--shards a a: each once" in refused(feed, capfd, "--shards", "a", "a")
    assert "SHARD=A: must be" in refused(feed, capfd, "--shards", "A", shard_map="")
    assert not feed.maps().maps
    feed.write_map({"version": 1, "shards": SHARDS})
    kill(start_until_ticks(feed, pace="1000/s", run_id="nought"))
    feed.write_map({"version": 1, "shards": {"a": SHARDS["b"], "b": SHARDS["a"]}})
    text = refused(feed, capfd)
    assert "is not version 1 of the stream MAP: give a changed map the next version" in text
    feed.write_map({"version": 2, "shards": SHARDS})
    kill(start_until_ticks(feed, "--give-up", "*", pace="1000/s", run_id="one"))
    assert "RUN_ID=one: begun with the feed" in refused(feed, capfd, run_id="one", seed=7)
    text = refused(feed, capfd, run_id="two")
    assert (
        "run one has no end: set RUN_ID=one to go on with it, or give it up with --give-up" in text
    )
    assert feed.sequence("--give-up", "one", run_id="two") == 0, feed.log
    text = refused(feed, capfd, run_id="one")
    assert "RUN_ID=one: run two has followed it: set another" in text
    for name, to, problem in (
        ("IBM", "b", "move: IBM is on no shard"),
        ("KO", "a", "move: KO is on shard a already"),
    ):
        found = feed.move(name, to)
        assert (found.returncode, found.stderr.strip()) == (1, problem)


@pytest.mark.slow
def test_the_leader_of_three_brokers_dies(tmp_path: Path) -> None:
    """Each time another server leads; what was acknowledged stays, and nothing is there twice."""
    with cluster(3) as brokers:
        feed = Feed(tmp_path, brokers)
        process = feed.start(pace=SLOW)
        try:
            for _ in range(2):
                before = eventually(lambda: feed.count("a"), "it publishes", 60, ignore=LOST)
                leader = brokers.leader("MD_a")
                leader.kill()
                eventually(
                    lambda before=before: feed.count("a") > before,
                    "another leads",
                    60,
                    ignore=LOST,
                )
                leader.start()
                brokers.wait_ready()
            stop(process, feed)
            assert feed.sequence() == 0, feed.log
            for shard in SHARDS:
                assert frames(feed.messages(shard)) == of_file(shard)
        finally:
            feed.close()
