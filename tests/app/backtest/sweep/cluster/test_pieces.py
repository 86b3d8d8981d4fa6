"""The ticks on their way: each piece goes into the cluster once, whoever asks for it."""

import asyncio
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from app.backtest.sweep.cluster.pieces import HELD, Pieces
from app.backtest.sweep.shared_ticks import SharedTicks, TickMemory
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from tests.app.backtest.sweep.sweeping import SAMPLE

PIECE = 1000


class Client:
    """Takes pieces as Dask's client does; ``fail``: raise for the next ones."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, str]] = []
        self.fail = 0

    async def scatter(self, piece: bytes, workers: list[str], **_options: object) -> bytes:
        await asyncio.sleep(0)
        if self.fail:
            self.fail -= 1
            raise TimeoutError("No valid workers found")
        self.sent.append((piece, *workers))
        return piece


@pytest.fixture
def ticks() -> Iterator[SharedTicks]:
    feed = open_feed(Settings(data_path=str(SAMPLE), replay="once"))
    with TickMemory(feed, 500) as memory:
        yield memory.shared


def test_workers_that_load_together_share_each_piece(ticks: SharedTicks) -> None:
    client = Client()

    async def load(pieces: Pieces, worker: str) -> bytes:
        found = b""
        with pieces.loading():
            for start in pieces.starts:
                found += await pieces.get(start, worker)
        return found

    async def run() -> None:
        pieces = Pieces(client, ticks, PIECE)
        got = await asyncio.gather(*(load(pieces, name) for name in "abcde"))
        whole = Path(ticks.path).read_bytes()
        assert got == [whole] * 5
        assert b"".join(piece for piece, _ in client.sent) == whole
        assert len(client.sent) == len(whole) // PIECE == 17
        assert await pieces.digest() == sha256(whole).hexdigest()
        assert not pieces._held, "the cluster holds none when all have all"
        # One that comes later is sent them again.
        assert await load(pieces, "late") == whole
        assert [worker for _, worker in client.sent[17:]] == ["late"] * 17

    asyncio.run(run())


def test_only_a_few_are_held(ticks: SharedTicks) -> None:
    async def run() -> None:
        pieces = Pieces(Client(), ticks, PIECE)
        with pieces.loading():
            for start in pieces.starts:
                await pieces.get(start, "a")
                assert len(pieces._held) <= HELD

    asyncio.run(run())


def test_what_is_lost_or_has_failed_is_sent_again(ticks: SharedTicks) -> None:
    client = Client()

    async def run() -> None:
        pieces = Pieces(client, ticks, PIECE)
        with pieces.loading():
            client.fail = 1
            with pytest.raises(TimeoutError):
                await pieces.get(0, "a")
            pieces.lost(0)
            first = await pieces.get(0, "a")
            pieces.lost(0)
            pieces.lost(0)
            assert await pieces.get(0, "b") == first
            assert client.sent == [(first, "a"), (first, "b")]

    asyncio.run(run())
