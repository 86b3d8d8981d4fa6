"""When limits wait for a stream: connections that are lost, without a bus."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.bus.link.access import bus_access
from app.bus.link.connection import BusUnavailable, Link
from app.config.settings import Settings
from app.portfolio.intake import following
from app.portfolio.intake.following import Following
from app.portfolio.intake.reader import Batch
from app.portfolio.page.view import state_view
from app.portfolio.service import Portfolio
from app.portfolio.state import ShardState
from tests.app.portfolio.fill_messages import Told
from tests.app.portfolio.portfolios import MONEY, limited, messages, opened

BUY, SELL = Told(fill_no=2, qty=90), Told(fill_no=3, qty=90, side="SELL")
LIMIT = 1000


def follow(
    portfolio: Portfolio, monkeypatch: pytest.MonkeyPatch, *connections: list[Batch]
) -> None:
    """Let it read these batches; after those of each connection the connection is lost."""
    left = list(connections)

    class Reads:
        def __init__(self, *_: object) -> None:
            self._batches = left.pop(0) if left else []

        async def batches(self) -> AsyncGenerator[Batch, None]:
            for each in self._batches:
                yield each
                portfolio.look()  # as it does every second
            if not left:
                done.set()
            raise BusUnavailable("cut off")

    async def start(_self: Following, _link: Link, shard: str) -> ShardState:
        return portfolio.know(shard)

    monkeypatch.setattr(following, "Reader", Reads)
    monkeypatch.setattr(Following, "_start", start)
    settings = Settings(bus_url="nats://127.0.0.1:1", reconnect_delay_ms=1)
    follows = Following(portfolio, bus_access(settings), settings, ["a"])
    done = asyncio.Event()

    async def run() -> None:
        link: Any = SimpleNamespace(lost=asyncio.Event(), why="")
        task = asyncio.create_task(follows._follow(cast("Link", link), "a"))
        await asyncio.wait_for(done.wait(), 20)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_the_state_has_older_runs_apart(tmp_path: Path) -> None:
    portfolio = opened(tmp_path / "p.sqlite3")
    settings = Settings(bus_url="nats://127.0.0.1:1")
    follows = Following(portfolio, bus_access(settings), settings, ["a"])
    lost = Told(fill_no=2, price=90 * 10**9, side="SELL")
    portfolio.take("a", messages(Told(), lost, Told(run="s", fill_no=3, qty=1)))
    state = state_view(portfolio, follows)
    assert state["shards"][0]["run"] == "s"
    assert (state["total"]["exposure"], state["total"]["pnl"]) == ("100.00", "0.00")
    (older,) = state["older_runs"]
    assert older | {"shard": "a", "run": "r", "store": "one", "fills": 2} == older
    assert (older["pnl"], older["turnover"]) == ("-100.00", "1900.00")
    portfolio.state.close()


def test_who_may_not_list_the_streams_knows_the_shards_of_the_map(tmp_path: Path) -> None:
    portfolio = opened(tmp_path / "p.sqlite3")
    settings = Settings(bus_url="nats://127.0.0.1:1")
    follows = Following(portfolio, bus_access(settings), settings, ["a"])

    async def run() -> list[str]:
        async def unanswered(*_: object, **_more: object) -> None:
            await asyncio.sleep(60)

        link: Any = SimpleNamespace(
            api="$JS.API",
            client=SimpleNamespace(request=unanswered),
            denied=lambda subject: subject == "$JS.API.STREAM.NAMES",
            lost=asyncio.Event(),
        )
        return await asyncio.wait_for(follows._found(cast("Link", link)), 20)

    assert asyncio.run(run()) == []
    portfolio.state.close()


def test_a_connection_that_is_lost_while_catching_up_ends_no_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    portfolio = opened(tmp_path / "p.sqlite3", limited(exposure=LIMIT))
    follow(
        portfolio,
        monkeypatch,
        [Batch([], 2), Batch(messages(BUY), 1)],
        [Batch([], 1), Batch(messages(SELL, first=2), 0)],
    )
    assert portfolio.judges
    assert portfolio.shards["a"].fills == 2
    assert portfolio.state.last_breaches(5) == []
    portfolio.state.close()


def test_after_a_reconnection_the_past_is_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    portfolio = opened(tmp_path / "p.sqlite3", limited(exposure=LIMIT))
    follow(
        portfolio,
        monkeypatch,
        [Batch([], 0), Batch(messages(Told(qty=1)), 0)],
        [Batch([], 2), Batch(messages(BUY, first=2), 1), Batch(messages(SELL, first=3), 0)],
        [Batch([], 1), Batch(messages(Told(fill_no=4, qty=10), first=4), 0)],
    )
    (found,) = portfolio.state.last_breaches(5)
    assert found[0].value == 1100 * MONEY, "only the present is judged"
    portfolio.state.close()
