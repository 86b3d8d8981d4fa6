"""What a gateway that was killed finds in the counters of its former life."""

from pathlib import Path

import pytest

from app.gateway.transport import Mode, Transport
from app.market_data.feed import Feed
from tests.app.gateway.market.world import World, received
from tests.support.feed_helpers import make_feed, ticks_bytes, write_ticks

MS = 1_000_000
MUCH = 1 << 20


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return make_feed(write_ticks(tmp_path / "feed.csv", 300))


def at_tick_50(feed: Feed) -> World:
    """Stands still there; the orderbook has read everything."""
    world = World(feed, pace="1000/s")
    world.join(world.prices, MUCH, 0, True)
    world.wait(49 * MS)
    world.tell(world.playback.transport.pause())
    assert world.playback.position == 50
    return world


def test_a_pause_is_still_one_at_the_same_tick(feed: Feed) -> None:
    world = at_tick_50(feed)
    world.crash()
    assert world.playback.transport == Transport("1000/s", paused=True)
    assert world.playback.position == 50
    world.wait(1000 * MS)
    assert world.playback.position == 50
    again = world.join(world.prices, MUCH, 50, True)
    world.wait(1000 * MS)
    assert received(again) == b"SEQ|50*"
    world.tell(world.playback.transport.resume())
    world.wait(9 * MS)
    assert received(again) == b"SEQ|50*" + ticks_bytes(feed, 50, 60)


def test_what_the_orderbook_had_before_the_counters_were_written_counts(feed: Feed) -> None:
    """The gateway is killed after the last tick was sent, and before it said so."""
    world = at_tick_50(feed)
    world.counters["ticks_sent"] = 20
    world.crash()
    assert world.playback.position == 20
    world.join(world.prices, MUCH, 50, True)
    assert world.playback.position == 50
    assert world.playback.transport.mode is Mode.PAUSED


def test_a_jump_goes_on_to_its_end(feed: Feed) -> None:
    world = at_tick_50(feed)
    world.sessions.disconnect(next(iter(world.prices.subscribers)), "client_left")
    world.tell(world.playback.transport.seek(200, 50))
    assert world.playback.transport.until == 200, "nobody reads"
    world.crash()
    again = world.join(world.prices, MUCH, 50, True)
    assert received(again) == b"SEQ|50*" + ticks_bytes(feed, 50, 200)
    assert (world.playback.position, world.playback.transport.mode) == (200, Mode.PAUSED)


def test_a_pace_that_was_told_is_kept_until_the_setting_is_another(feed: Feed) -> None:
    world = at_tick_50(feed)
    world.tell(world.playback.transport.at_pace("0.5/s"))
    world.crash()
    assert world.playback.transport == Transport("0.5/s", paused=True)
    world.crash(pace="60x")
    assert world.playback.transport == Transport("60x", paused=True)
    world.crash()
    assert world.playback.transport == Transport("60x", paused=True)


def test_other_data_may_end_before_the_place(feed: Feed, tmp_path: Path) -> None:
    world = at_tick_50(feed)
    world.sessions.disconnect(next(iter(world.prices.subscribers)), "client_left")
    world.tell(world.playback.transport.seek(200, 50))
    world.crash(make_feed(write_ticks(tmp_path / "short.csv", 30)))
    world.join(world.prices, MUCH, 0, True)
    assert world.playback.finished


def test_a_gateway_that_dies_before_it_knew_anything_begins_with_the_settings(feed: Feed) -> None:
    world = World(feed, pace="7/s", start_paused=True)
    world.counters.clear()
    world.crash()
    assert world.playback.transport == Transport("7/s", paused=True)


def test_half_a_change_is_mended(feed: Feed) -> None:
    """Killed between two of the words: the pace is unknown, so it is that of the settings."""
    world = at_tick_50(feed)
    world.tell(world.playback.transport.at_pace("0.5/s"))
    world.counters["market_changes"] += 1
    world.counters["pace_kind"] = 0
    world.crash()
    assert world.playback.transport == Transport("1000/s", paused=True)
    assert world.counters["market_changes"] % 2 == 0
