"""Fixtures of the shared memory tests."""

from collections.abc import Iterator

import pytest

from tests.support.kernel.ring_ends import Writer


@pytest.fixture
def writer(name: str) -> Iterator[Writer]:
    """A ring with its writer."""
    made = Writer(name)
    yield made
    made.close()
