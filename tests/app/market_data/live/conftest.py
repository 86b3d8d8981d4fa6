"""What a session logs."""

from collections.abc import Iterator

import pytest
import structlog

from tests.app.market_data.live.live_session import Logged


@pytest.fixture
def logged() -> Iterator[Logged]:
    """The lines that are logged meanwhile."""
    with structlog.testing.capture_logs() as lines:
        yield lines
