"""A broker, and a feed over it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.bus.feed.running import Feed
from tests.support.bus.broker import Cluster, cluster


@pytest.fixture
def broker() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture
def feed(broker: Cluster, tmp_path: Path) -> Iterator[Feed]:
    made = Feed(tmp_path, broker)
    yield made
    made.close()
