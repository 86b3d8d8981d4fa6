"""A small feed for the tests of the gateway."""

from pathlib import Path

import pytest

from app.market_data.feed import Feed
from tests.support.feed_helpers import make_feed, write_ticks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A data file of 300 ticks."""
    return write_ticks(tmp_path / "feed.csv", 300)


@pytest.fixture
def feed(path: Path) -> Feed:
    """The feed of that file."""
    return make_feed(path)
