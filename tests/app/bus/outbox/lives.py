"""Publishers that live and die in a test, without a process of their own."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from app.bus.link import streams
from app.bus.link.access import bus_access
from app.bus.link.connection import Link
from app.bus.outbox.mark_file import MarkFile
from app.bus.outbox.publisher import Publisher, Resync
from app.bus.outbox.store_reader import StoreReader
from app.config.settings import Settings
from app.order_manager.store.files import mark_path
from tests.support.bus.broker import Cluster

NEW_SHARDS: Final = (f"s{number}" for number in itertools.count())
"""Names that no other test of this process has."""


class Life:
    """A publisher with files of its own; ends as a killed process does."""

    def __init__(self, shard: str, path: Path, rows: int = 512, marks: Path | None = None) -> None:
        self.store = StoreReader(str(path), rows)
        self.file = MarkFile(str(marks or mark_path(str(path))))
        self.publisher = Publisher(shard, self.store, self.file)

    async def publish(self, link: Link) -> None:
        """Until the stream has everything."""
        await self.publisher.sync(link)
        await self.publish_more(link)

    async def publish_more(self, link: Link) -> None:
        """The same, over a link that it has been synchronized on."""
        while True:
            try:
                await self.publisher.publish_new(link)
                return
            except Resync:
                await asyncio.sleep(0.01)
                await self.publisher.sync(link)

    def end(self) -> None:
        self.store.close()
        self.file.close()


def over(
    broker: Cluster, shard: str, work: Callable[[Link], Awaitable[Any]], **settings: object
) -> Any:
    """Do something over a connection, the shard's stream made, bounded as these settings say."""

    async def run() -> Any:
        access = bus_access(Settings.from_environ(broker.environ(**settings)))
        async with await Link.open(access, "test") as link:
            await streams.ensure(link, streams.out(shard), broker.replicas, change=bool(settings))
            return await work(link)

    return asyncio.run(run())
