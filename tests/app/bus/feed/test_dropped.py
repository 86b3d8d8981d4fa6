"""A gateway that was further behind than its stream is long: it says so, and skips no tick."""

import time
from collections.abc import Iterator

import pytest

from app.bus.link import streams
from app.bus.link.access import Bounds
from app.bus.link.connection import Link
from app.config.settings import Settings
from app.market_data.live.bus.feed import BusFeed
from app.market_data.live.bus.opening import begin_bus_recording
from app.market_data.live.bus.session import BusSession
from app.runtime.lifecycle import FatalError
from tests.app.bus.feed.running import Feed, kill
from tests.support.bus.broker import Cluster, cluster
from tests.support.bus.session import work

pytestmark = pytest.mark.medium

SHORT = Bounds(feed=200_000, orders=1 << 20)
"""A third of the sample's ticks of one shard."""
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def broker() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


async def shorten(link: Link) -> None:
    """The stream of shard a keeps its last messages only."""
    found = await link.js.stream_info("MD_a")
    wanted = streams.md("a").config(1, SHORT)
    await link.js.update_stream(found.config.evolve(max_bytes=wanted.max_bytes))


def opened(feed: Feed) -> tuple[BusFeed, BusSession]:
    """A gateway's feed and session."""
    settings = Settings.from_environ(
        {**feed.broker.environ(), "DATA_PATH": "nats://md.a", "OUTPUT_DIR": str(feed.folder / "a")}
    )
    found, session = begin_bus_recording(settings, lambda: False, lambda: None)
    assert session is not None
    return found, session


def read(session: BusSession, feed: BusFeed, messages: int) -> None:
    """As a gateway, until it has so many messages."""
    until_s = time.monotonic() + PATIENCE_S
    while feed.intake.place < messages:
        work(session, until_s)


def test_it_refuses_to_go_on_behind_the_removed_part(feed: Feed) -> None:
    """First one that was away, then one that has nothing."""
    sequencer = feed.start(pace="500/s")
    found, session = opened(feed)
    read(session, found, 2)
    kill(sequencer)
    place, ticks = found.intake.place, found.available
    session.close()
    found.batches.close()
    assert not found.intake.ended
    assert feed.sequence() == 0, feed.log
    feed.talk(shorten)
    found, session = opened(feed)
    with pytest.raises(FatalError, match=rf"^md\.a: message {place + 1} of run ") as no:
        read(session, found, 1 << 30)
    session.close()
    found.batches.close()
    assert "is not in the stream any more" in str(no.value)
    assert "BUS_FEED_BYTES_MAX" in str(no.value)
    assert "\n" not in str(no.value)
    assert found.available == ticks
    for file in (feed.folder / "a/live").iterdir():
        file.unlink()
    with pytest.raises(FatalError, match=r"^md\.a: the beginning of run .* is not in the stream"):
        opened(feed)
