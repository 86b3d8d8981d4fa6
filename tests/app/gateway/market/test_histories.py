"""Whatever the market is told, and whenever: every client sees the ticks of an undisturbed run.

The orders are a function of these bytes, so they are the same, too; with real processes
``test_stack.py`` compares them.
"""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.gateway.sessions import Subscriber
from app.gateway.transport import Mode
from app.market_data.feed import Feed
from app.model.wire.feed_protocol import encode_mark
from tests.app.gateway.market.world import World, received
from tests.support.feed_helpers import all_ticks, make_feed, parse_ticks, ticks_bytes, write_ticks

TICKS = 300
MS = 1_000_000
MUCH = 1 << 20


@cache
def the_feed(replay: str) -> Feed:
    path = Path(mkdtemp()) / "feed.csv"
    write_ticks(path, TICKS, sentiment=lambda row: str(row * 7 % 101))
    return make_feed(path, replay=replay)


class History:
    """Applies actions to a world, and checks after each what the clients have got."""

    def __init__(self, feed: Feed, pace: str, paused: bool) -> None:
        self.world = World(feed, pace=pace, start_paused=paused)
        self.feed = feed
        self.clients: list[tuple[Subscriber, int]] = []
        """With the tick from which each reads."""
        self.moods: list[tuple[Subscriber, bytes]] = []
        """Clients of the sentiment, with all that each gets until the end."""
        self.stack: Subscriber | None = None
        self.seen = b""
        """Ticks that the orderbook of the run has got over earlier connections."""

    def apply(self, name: str, amount: int) -> None:
        getattr(self, f"do_{name}")(amount)
        self.check()

    def check(self) -> None:
        position = self.world.playback.position
        for client, first in self.clients:
            assert all_of(self.feed, first).startswith(received(client))
        for client, expected in self.moods:
            assert expected.startswith(received(client))
        if self.stack is not None:
            assert self.next_seq() <= self.world.prices.released
        assert 0 <= position <= self.feed.total

    # ---- what happens

    def do_join(self, room: int) -> None:
        """The orderbook connects, where it is not connected."""
        if self.stack is None:
            seq = len(parse_ticks(whole(self.seen)))
            self.stack = self.world.join(self.world.prices, room * 20, seq, True)
            self.clients.append((self.stack, seq))

    def do_stranger(self, seq: int) -> None:
        """Somebody else, who asks for a tick that may be far ahead."""
        seq %= TICKS
        self.clients.append((self.world.join(self.world.prices, seq, seq, False), seq))

    def do_mood(self, room: int) -> None:
        """A plain client of the sentiment: it never gets any before its tick is due."""
        begin = self.world.sentiments.position
        expected = self.feed.sentiment_snapshot(begin) if begin else b""
        expected += self.feed.sentiments(begin, TICKS)
        client = self.world.join(self.world.sentiments, room, None, False)
        self.moods.append((client, expected))

    def do_read(self, count: int) -> None:
        for client, _ in [*self.clients, *self.moods]:
            self.world.read(client, count * 10)

    def do_read_much(self, _: int) -> None:
        for client, _first in [*self.clients, *self.moods]:
            self.world.read(client, MUCH)

    def do_wait(self, amount: int) -> None:
        before = self.world.prices.released
        stands = self.world.playback.transport.mode is Mode.PAUSED
        self.world.wait(amount * MS)
        if stands:
            assert self.world.prices.released == before

    def do_pause(self, _: int) -> None:
        self.world.tell(self.world.playback.transport.pause())
        assert not self.world.playback.unpaced

    def do_resume(self, _: int) -> None:
        self.world.tell(self.world.playback.transport.resume())

    def do_step(self, ticks: int) -> None:
        playback = self.world.playback
        if not playback.finished:
            now = playback.transport
            self.world.tell(now.step(ticks + 1, playback.position, self.feed.total))

    def do_speed(self, which: int) -> None:
        pace = ["max", "1000/s", "20000/s", "3x", "0.5/s"][which % 5]
        self.world.tell(self.world.playback.transport.at_pace(pace))

    def do_seek(self, where: int) -> None:
        """Forward or back."""
        playback, tick = self.world.playback, where * 3 % (TICKS + 1)
        if playback.finished:
            return
        if tick >= playback.position:
            self.world.tell(playback.transport.seek(tick, playback.position))
            return
        self.world.jump_back(tick)
        self.clients, self.moods, self.stack, self.seen = [], [], None, b""

    def do_crash(self, _: int) -> None:
        """The gateway is killed."""
        if self.world.playback.finished:
            return
        before = self.world.playback.transport
        self.world.crash()
        assert self.world.playback.transport == before
        self.seen += self.received_ticks()
        self.clients, self.moods, self.stack = [], [], None

    # ---- what the orderbook has

    def received_ticks(self) -> bytes:
        """Whole ticks of the present connection."""
        if self.stack is None:
            return b""
        first = next(seq for client, seq in self.clients if client is self.stack)
        head = encode_mark("SEQ", first)
        end = encode_mark("END", self.feed.total)
        return whole(received(self.stack).removeprefix(head).removesuffix(end))

    def next_seq(self) -> int:
        return len(parse_ticks(self.seen + self.received_ticks()))

    def play_to_the_end(self) -> None:
        self.do_join(0)
        self.do_resume(0)
        self.world.tell(self.world.playback.transport.at_pace("max"))
        for _ in range(10):
            self.do_read_much(0)
            self.do_wait(1)
        self.check()


def whole(data: bytes) -> bytes:
    """Up to the last whole tick."""
    fields = data.split(b"*")
    count = (len(fields) - 1) // 3 * 3
    return b"".join(field + b"*" for field in fields[:count])


def all_of(feed: Feed, first: int) -> bytes:
    ticks = ticks_bytes(feed, first, TICKS)
    return encode_mark("SEQ", first) + ticks + encode_mark("END", feed.total)


NAMES = (
    "join", "join", "read", "read", "read_much", "wait", "wait", "stranger", "mood",
    "pause", "resume", "step", "speed", "seek", "seek", "crash",
)  # fmt: skip
ACTIONS = st.tuples(st.sampled_from(NAMES), st.integers(0, 100))


def run(actions: list[tuple[str, int]], pace: str, paused: bool) -> None:
    history = History(the_feed("once"), pace, paused)
    for name, amount in actions:
        history.apply(name, amount)
    history.play_to_the_end()
    assert history.world.playback.finished
    assert history.seen + history.received_ticks() == all_ticks(history.feed)
    assert history.stack is not None
    assert received(history.stack).endswith(b"END|%d*" % TICKS)
    for client, expected in history.moods:
        assert received(client) == expected


HISTORY = {
    "actions": st.lists(ACTIONS, max_size=40),
    "pace": st.sampled_from(["1000/s", "max", "5x"]),
    "paused": st.booleans(),
}


@settings(max_examples=100, deadline=None)
@given(**HISTORY)
def test_every_history_ends_with_the_same_ticks(
    actions: list[tuple[str, int]], pace: str, paused: bool
) -> None:
    run(actions, pace, paused)


@pytest.mark.medium
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(**HISTORY)
def test_a_thousand_histories(actions: list[tuple[str, int]], pace: str, paused: bool) -> None:
    run(actions, pace, paused)
