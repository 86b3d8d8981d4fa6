"""Fixtures of the shared memory tests."""

from collections.abc import Iterator

import pytest

from tests.support.children import Spawn, segment_name, spawner
from tests.support.kernel.ring_ends import Writer


@pytest.fixture
def name() -> Iterator[str]:
    """A segment name of this test only."""
    yield from segment_name()


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts child processes that do not outlive the test."""
    yield from spawner()


@pytest.fixture
def writer(name: str) -> Iterator[Writer]:
    """A ring with its writer."""
    made = Writer(name)
    yield made
    made.close()
