"""A broker for a module, and a shard for a test."""

from collections.abc import Iterator

import pytest

from tests.app.bus.outbox.lives import NEW_SHARDS
from tests.support.bus.broker import Cluster, cluster


@pytest.fixture(scope="module")
def broker() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture
def shard() -> str:
    """A shard that no other test has."""
    return next(NEW_SHARDS)
