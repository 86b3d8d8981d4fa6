"""The price port with many readers: the stack's own processes come first."""

from pathlib import Path

import pytest

from app.gateway.sessions import Subscriber
from app.market_data.feed import Feed
from tests.app.gateway.market.world import World, received
from tests.support.feed_helpers import all_ticks, make_feed, write_ticks

TICKS = 3000
ROOM = 1000
"""What a client takes before its socket is full."""


class Crowd:
    """A gateway with several strangers and then one process of the stack, and who was sent to."""

    def __init__(self, feed: Feed, *, strangers: int = 3, room: int = ROOM, **settings: object):
        self.world = World(feed, price_subscribers=strangers + 1, **settings)
        prices, join = self.world.prices, self.world.join
        self.strangers = [join(prices, room, 0, proven=False) for _ in range(strangers)]
        self.orderbook = join(prices, room, 0, proven=True)
        self.sent: list[Subscriber] = []
        self._send = self.world.sessions.send
        self.world.sessions.send = self._note  # type: ignore[method-assign]

    def _note(self, subscriber: Subscriber, data: memoryview) -> int:
        count = self._send(subscriber, data)
        if count:
            self.sent.append(subscriber)
        return count

    def make_room(self, *clients: Subscriber) -> None:
        """They read, and nobody has noticed yet."""
        for client in clients:
            client.socket.room += ROOM  # type: ignore[attr-defined]


@pytest.fixture
def large(tmp_path: Path) -> Feed:
    """A feed that is far larger than a client's room."""
    return make_feed(write_ticks(tmp_path / "large.csv", TICKS))


def test_who_lags_of_the_stack_gets_a_turn_before_each_of_another(large: Feed) -> None:
    crowd = Crowd(large, pace="max")
    expected = []
    for stranger in crowd.strangers:
        crowd.make_room(stranger, crowd.orderbook)
        crowd.world.pump(stranger)
        expected += [crowd.orderbook, stranger]
    assert crowd.sent == expected


def test_strangers_are_served_while_the_stack_does_not_read(large: Feed) -> None:
    crowd = Crowd(large, pace="max")
    for stranger in crowd.strangers:
        crowd.make_room(stranger)
        crowd.world.pump(stranger)
    assert crowd.sent == crowd.strangers


def test_the_stack_is_sent_a_release_first(large: Feed) -> None:
    crowd = Crowd(large, pace="1000/s", room=1 << 20)
    for _ in range(5):
        crowd.sent.clear()
        crowd.world.wait(10_000_000)
        assert set(crowd.sent) == {crowd.orderbook, *crowd.strangers}
        assert crowd.sent[0] is crowd.orderbook


def test_a_client_of_the_stack_that_leaves_in_a_strangers_turn_is_gone(large: Feed) -> None:
    crowd = Crowd(large, pace="max")

    def broken(_data: memoryview) -> int:
        raise ConnectionResetError(104, "reset")

    crowd.orderbook.socket.send = broken  # type: ignore[assignment,method-assign]
    crowd.make_room(crowd.strangers[0])
    crowd.world.pump(crowd.strangers[0])
    assert crowd.sent == [crowd.strangers[0]]
    assert crowd.orderbook not in crowd.world.prices.subscribers


@pytest.mark.parametrize("pace", ["max", "1000/s"])
def test_everybody_gets_every_tick(large: Feed, pace: str) -> None:
    crowd = Crowd(large, pace=pace)
    everybody = [*crowd.strangers, crowd.orderbook]
    frames = all_ticks(large)
    for _ in range(len(frames) // ROOM + 10):
        crowd.world.wait(100_000_000)
        for client in everybody:
            crowd.world.read(client, ROOM)
    for client in everybody:
        assert received(client) == b"SEQ|0*" + frames + b"END|%d*" % TICKS
