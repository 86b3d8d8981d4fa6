"""The sequencer and a gateway as users of the cluster, with no more rights than they need."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.bus.feed.running import SHARDS, Feed
from tests.support.bus.accounts import Bus, bus_with_accounts

pytestmark = pytest.mark.medium


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    with bus_with_accounts(tmp_path / "accounts") as made:
        yield made


def test_a_feed_goes_through_accounts_and_tls(bus: Bus, tmp_path: Path) -> None:
    """Published by ``sequencer``, moved by ``setup``, read by ``gateway-a``; by no other shard."""
    feed = Feed(tmp_path / "feed", bus.cluster, **bus.settings("sequencer"))
    try:
        assert feed.sequence() == 0, feed.log
        mover = Feed(tmp_path / "feed", bus.cluster, **bus.settings("setup"))
        moved = mover.move("KO", "b")
        assert moved.returncode == 0, moved
        with feed.stack("a", **bus.settings("gateway-a")) as stack:
            assert stack.wait(60) == 0, stack.tail()
            assert len(stack.outcome().orders) > 200
        other = bus.settings("gateway-b")
        with feed.stack("a", "other", **other) as stack:
            said = "the broker does not let this user ask BUS.API.STREAM.MSG.GET.MD_a"
            stack.wait_until("it is refused", lambda: said in stack.log_path.read_text(), 60)
        denied = Feed(tmp_path / "denied", bus.cluster, **bus.settings("gateway-a"))
        assert denied.sequence() == 1
        assert "does not let this user ask" in denied.log
        assert {shard: feed.count(shard) > 5 for shard in SHARDS} == {"a": True, "b": True}
    finally:
        feed.close()
