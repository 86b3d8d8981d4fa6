"""Playback without sockets or a clock: the test says what time it is."""

import select
from collections.abc import Iterator

import pytest

from app.gateway.playback import WAKE_NS_MIN, Playback
from app.gateway.price_publisher import PricePublisher
from app.gateway.sentiment_publisher import SentimentPublisher
from app.gateway.sessions import Sessions
from app.market_data.feed import Feed
from app.model.timestamps import NS_PER_S
from tests.support.feed_helpers import make_settings

NOW = 123_456_789_012_345


class Player:
    """A playback of ``feed``, the times it armed, and how often it finished."""

    def __init__(self, epoll: select.epoll, feed: Feed, **settings: object) -> None:
        sessions = Sessions(epoll)
        self.prices = PricePublisher(feed, sessions)
        self.armed: list[int] = []
        self.finished = 0
        self.playback = Playback(
            make_settings(**({"price_subscribers": 0} | settings)),
            feed,
            self.prices,
            SentimentPublisher(feed, sessions),
            arm=self.armed.append,
            on_change=self._count_finish,
        )

    def _count_finish(self) -> None:
        self.finished += 1


@pytest.fixture
def epoll() -> Iterator[select.epoll]:
    with select.epoll() as opened:
        yield opened


def test_waits_for_subscribers(epoll: select.epoll, feed: Feed) -> None:
    player = Player(epoll, feed, price_subscribers=1, pace="10/s")
    player.playback.start_when_ready(NOW)
    player.playback.release_due(NOW + NS_PER_S)
    assert not player.playback.started
    assert player.prices.released == 0
    player.prices.completed = 1
    player.playback.start_when_ready(NOW)
    assert player.playback.started
    assert player.prices.released == 1


def test_each_wake_up_releases_what_is_due_and_arms_the_next(
    epoll: select.epoll, feed: Feed
) -> None:
    player = Player(epoll, feed, pace="10/s")
    player.playback.start_when_ready(NOW)
    for late_ns in (0, 5, 99_999_999):
        player.playback.release_due(player.armed[-1] + late_ns)
    assert player.prices.released == 4
    assert player.armed == [NOW + tick * NS_PER_S // 10 for tick in (1, 2, 3, 4)]
    # Three ticks late: all are released at once, and the schedule does not move.
    player.playback.release_due(NOW + 7 * NS_PER_S // 10)
    assert player.prices.released == 8
    assert player.armed[-1] == NOW + 8 * NS_PER_S // 10


def test_fast_ticks_are_released_together(epoll: select.epoll, feed: Feed) -> None:
    player = Player(epoll, feed, pace="50000/s")
    player.playback.start_when_ready(NOW)
    player.playback.release_due(player.armed[-1])
    player.playback.release_due(player.armed[-1])
    assert player.armed[2] - player.armed[1] == WAKE_NS_MIN
    assert player.prices.released == 1 + 1 + WAKE_NS_MIN * 50_000 // NS_PER_S


@pytest.mark.parametrize("pace", ["1000/s", "5x"])
def test_finishes_once(epoll: select.epoll, feed: Feed, pace: str) -> None:
    player = Player(epoll, feed, pace=pace)
    player.playback.start_when_ready(NOW)
    for _ in range(2):
        player.playback.release_due(NOW + 1000 * NS_PER_S)
    assert player.prices.released == feed.total
    assert player.finished == 1


def test_schedule_continues_from_a_client_ahead(epoll: select.epoll, feed: Feed) -> None:
    player = Player(epoll, feed, pace="10/s")
    player.playback.start_when_ready(NOW)
    released = player.playback.released
    player.prices.release(100)
    later = NOW + NS_PER_S // 100
    player.playback.follow_resume(released, later)
    assert player.prices.released == 101
    assert player.armed[-1] == later + NS_PER_S // 10


def test_full_pace_releases_everything_at_once_and_arms_nothing(
    epoll: select.epoll, feed: Feed
) -> None:
    player = Player(epoll, feed)
    player.playback.start_when_ready(NOW)
    assert player.playback.unpaced
    assert player.prices.released == feed.total
    assert not player.armed
