"""Connections are counted from their acceptance to their end, not to their collection."""

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from app.config.settings import Settings
from app.dashboard.serving.server import CONNECTIONS_MAX, BoundedProtocol, make_server


def test_one_that_has_ended_makes_room_at_once() -> None:
    async def run() -> None:
        counts: Counter[str] = Counter()
        metrics: Any = SimpleNamespace(set=lambda *_: None)
        metrics.add = lambda name, amount=1: counts.update({name: amount})
        server = make_server(lambda *_: None, Settings(), metrics)
        server.config.load()
        server.lifespan = SimpleNamespace(state={})  # type: ignore[assignment]
        kept = []  # so that the garbage collector takes none of them
        for _ in range(CONNECTIONS_MAX + 50):
            made = server._accept()
            made.connection_made(MagicMock())
            made.connection_lost(None)
            kept.append(made)
        assert not counts
        held = [server._accept() for _ in range(CONNECTIONS_MAX)]
        with pytest.raises(ConnectionRefusedError):
            server._accept()
        assert counts["connections_refused"] == 1
        BoundedProtocol.accepted.difference_update(held)

    asyncio.run(run())
