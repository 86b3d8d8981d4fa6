"""The sequencer: numbers the ticks of a feed for each shard, and publishes them.

It has no state of its own: the streams say how far they have got, the stream ``MAP`` which map
holds from which tick on.  So it may be killed at any moment, and go on anywhere with the same data.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from app.bus.feed.choice import Wanted, addition
from app.bus.feed.map_log import Conflict, MapLog, Start, append_map, append_start, read_on
from app.bus.feed.publisher import Publisher, Stale
from app.bus.feed.split import CHUNK_TICKS, Change, Cursor, Splitter
from app.bus.link import streams
from app.bus.link.access import Access
from app.bus.link.connection import BusRefused, BusUnavailable, Link
from app.bus.shard_map import MapError
from app.config.settings import Settings
from app.gateway.pacing import Pace, make_pace
from app.market_data.feed import Feed
from app.market_data.live.bus.batch import Begin
from app.market_data.live.exchange.outage import Outage
from app.runtime.lifecycle import Backoff
from app.runtime.log import get_logger

log = get_logger()

POLL_S: Final = 0.2
"""Between two looks at the map, and at whether to stop."""
TIMER_S_MIN: Final = 0.0005
"""Ticks that are due within this time are sent together."""
PROGRESS_S: Final = 10.0


class Stopped(Exception):
    """The process is to stop."""


class ShardAdded(Exception):
    """The map has another shard from now on: begin again, with its stream."""


class Sequencer:
    """One run of one feed.  ``give_up``: see the publisher; ``alive``: called several times a
    second from when all shards have begun the run."""

    def __init__(
        self,
        settings: Settings,
        access: Access,
        feed: Feed,
        wanted: Wanted,
        stopped: Callable[[], bool],
        *,
        give_up: str = "",
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings, self._access, self._feed = settings, access, feed
        self._wanted, self._stopped, self._give_up = wanted, stopped, give_up
        self._alive = alive
        self.run_name = settings.run_id or feed.feed_id
        self.id = secrets.token_hex(6)
        self._publishers: dict[str, Publisher] = {}
        self._cursors: dict[str, Cursor] = {}
        self._splitter: Splitter | None = None
        self._pace: Pace | None = make_pace(settings.pace, feed)
        self._begun = False
        self._released = 0 if self._pace else feed.total
        self._limit = feed.total
        self._refused: set[int] = set()
        self._outage: Outage | None = None
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Publish until every shard has the whole run; connects again as often as needed.

        Raises:
            BusRefused: it cannot be done.
            SplitError: the data cannot be divided in this way.
            Stopped: ``stopped()`` is true.
        """
        settings = self._settings
        self._backoff = Backoff(settings.reconnect_delay_ms, settings.reconnect_delay_ms_max)
        while True:
            reason = "a stream ends with another message than expected"
            try:
                async with await Link.open(self._access, "sequencer") as link:
                    await self._publish_all(link)
                    return
            except ShardAdded:
                continue
            except Stale:
                pass  # an acknowledgement was lost, or somebody else publishes: the streams say
            except BusUnavailable as error:
                reason = str(error)
            if self._stopped():
                raise Stopped
            pause_s, now_s = self._backoff.delay_s(), time.monotonic()
            self._outage = self._outage or Outage(now_s)
            if line := self._outage.failed(reason, pause_s, now_s):
                log.warning("sequencer_lost", **line)
            if self._begun:
                self._alive()
            await asyncio.sleep(pause_s)

    async def _publish_all(self, link: Link) -> None:
        maps = await self._recover(link)
        after = self._outage.over(time.monotonic()) if self._outage else {}
        self._outage = None
        self._backoff.reset()
        log.info("sequencer_connected", run=self.run_name, **after)
        for cursor in self._cursors.values():
            log.info(
                "sequencing_shard",
                run=self.run_name,
                shard=cursor.shard,
                seq=cursor.seq,
                map=cursor.map_version,
                source=cursor.source_next,
            )
        if not self._begun:
            # What one shard has was due for all.
            first = max(cursor.source_next for cursor in self._cursors.values())
            if self._pace:
                self._pace.begin(first, time.monotonic_ns())
            self._begun = True
        self._alive()
        shards = [self._publish_shard(link, self._publishers[each]) for each in self._cursors]
        await _first_of(
            _all_of(shards), self._watch_map(link, maps), self._clock(), self._watch(link)
        )
        ticks = {shard: cursor.seq for shard, cursor in self._cursors.items()}
        log.info("sequenced", run=self.run_name, ticks=sum(ticks.values()), **ticks)

    # ---- where the run is

    async def _recover(self, link: Link) -> MapLog:
        """Streams, map history and cursors, from what the bus has."""
        replicas = self._settings.bus_replicas
        await streams.ensure(link, streams.shard_map(), replicas)
        maps = MapLog()
        await read_on(link, maps)
        await self._agree_on_map(link, maps)
        history = maps.history(self.run_name)
        first = history[0].map
        for shard in first.shards:
            await streams.ensure(link, streams.md(shard), replicas)
        self._cursors.clear()
        # Checked before anything is published.
        self._splitter = Splitter(self._feed, self.run_name, history[:1])
        self._limit = self._feed.total
        for shard in first.shards:
            await self._recover_shard(link, shard, history[0])
        for change in history[1:]:
            if self._is_passed(change):
                continue
            for shard in set(change.map.shards) - set(self._cursors):
                await streams.ensure(link, streams.md(shard), replicas)
                await self._recover_shard(link, shard, change)
            self._splitter.change(change)
        # A change that was decided when the connection broke may be in the stream or not: it is
        # settled before a tick goes out.
        await self._settle_map(link, maps)
        return maps

    async def _recover_shard(self, link: Link, shard: str, since: Change) -> None:
        """Go on with a shard that there is since a change of the map; begin its run if needed."""
        publisher = self._publishers.setdefault(shard, Publisher(shard, self.run_name, self.id))
        cursor = await publisher.recover(link, self._give_up)
        if cursor is None:
            begin = Begin(self.run_name, shard, since.map.symbols, self._feed.feed_id)
            cursor = await publisher.begin(link, begin, since.map.version)
        if not cursor.seq:
            # Nothing before is of this shard: the feed needs not be read from its beginning.
            cursor.source_next = cursor.scan = cursor.bound = max(cursor.source_next, since.at)
        self._cursors[shard] = cursor

    def _is_passed(self, change: Change) -> bool:
        """Whether ticks after the change went out as before it: who decided it was late."""
        return any(
            cursor.map_version < change.map.version and cursor.source_next > change.at
            for cursor in self._cursors.values()
        )

    async def _agree_on_map(self, link: Link, maps: MapLog) -> None:
        """The latest map is that of the stream, or a later one of SHARD_MAP; the run begins."""
        history, last = maps.history(self.run_name), maps.last_run
        if history and last is not None and last.run != self.run_name:
            raise BusRefused(f"RUN_ID={self.run_name}: run {last.run} has followed it: set another")
        if last is not None and last.run == self.run_name and last.feed_id != self._feed.feed_id:
            raise BusRefused(
                f"RUN_ID={self.run_name}: begun with the feed {last.feed_id}, and these data and "
                f"settings make {self._feed.feed_id}: set them as before, or another RUN_ID"
            )
        try:
            running = history[-1].map if history else None
            added = addition(self._wanted, maps.latest, running)
        except MapError as error:
            raise BusRefused(str(error)) from None
        if added is not None:
            await self._append(append_map(link, maps, added))
        assert maps.latest is not None
        if self._wanted.map and self._wanted.map.version < maps.latest.version:
            log.info("map_of_stream", version=maps.latest.version, of_file=self._wanted.map.version)
        if not history:
            start = Start(self.run_name, maps.latest.version, 0, self._feed.feed_id)
            await self._append(append_start(link, maps, start))

    async def _append(self, appending: Coroutine[Any, Any, None]) -> None:
        try:
            await appending
        except Conflict:
            raise Stale from None

    # ---- changes of the map

    async def _watch_map(self, link: Link, maps: MapLog) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await read_on(link, maps)
            await self._settle_map(link, maps)

    async def _settle_map(self, link: Link, maps: MapLog) -> None:
        """Decide from which tick on the next version holds, and use it."""
        assert self._splitter is not None
        now = self._splitter.changes[-1].map
        for version in sorted(each for each in maps.maps if each > now.version):
            later = maps.maps[version]
            if problem := now.successor_problem(later):
                if version not in self._refused:
                    log.error("map_refused", version=version, reason=problem)
                self._refused.add(version)
                continue
            # No shard is given a tick from here on until all know that the map changes there.
            reached = max(each.bound for each in self._cursors.values())
            self._limit = reached
            if _starts(maps, self.run_name).get(version, -1) < reached:
                start = Start(self.run_name, version, reached, self._feed.feed_id)
                await self._append(append_start(link, maps, start))
            at = _starts(maps, self.run_name)[version]
            log.info("map_holds", version=version, run=self.run_name, source=at)
            if set(later.shards) - set(self._cursors):
                raise ShardAdded
            self._splitter.change(Change(at, later))
            self._limit = self._feed.total
            self._wake()
            now = later

    # ---- ticks

    async def _publish_shard(self, link: Link, publisher: Publisher) -> None:
        assert self._splitter is not None
        cursor = self._cursors[publisher.shard]
        while not cursor.ended:
            moved = self._moved
            chunk_end = cursor.scan - cursor.scan % CHUNK_TICKS + CHUNK_TICKS
            until = min(self._released, self._limit, chunk_end)
            before = cursor.scan
            cursor.bound = max(cursor.bound, until)
            for message in self._splitter.messages(cursor, until):
                await publisher.publish(link, message)
            if cursor.scan == before and not cursor.ended:
                await publisher.settle(link)
                await moved.wait()
            else:
                await asyncio.sleep(0)
        await publisher.settle(link)

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def _clock(self) -> None:
        """Releases the ticks that are due."""
        pace = self._pace
        while pace is not None and self._released < self._feed.total:
            due = min(pace.due(time.monotonic_ns()), self._feed.total)
            if due > self._released:
                self._released = due
                self._wake()
            if due < self._feed.total:
                left_s = (pace.due_ns(due) - time.monotonic_ns()) / 1e9
                await asyncio.sleep(max(TIMER_S_MIN, left_s))
        await asyncio.Event().wait()

    async def _watch(self, link: Link) -> None:
        """Until the connection is lost, or the process is to stop."""
        said_s = time.monotonic()
        while not link.lost.is_set():
            if self._stopped():
                raise Stopped
            self._alive()
            await asyncio.sleep(POLL_S)
            if time.monotonic() >= said_s + PROGRESS_S:
                said_s = time.monotonic()
                at = {shard: cursor.seq for shard, cursor in self._cursors.items()}
                log.info("sequencing", run=self.run_name, **at)
        raise BusUnavailable(link.why)


def _starts(maps: MapLog, run: str) -> dict[int, int]:
    """From which tick on each version holds; the last start of a version counts."""
    return {each.version: each.at for each in maps.starts if each.run == run}


async def _all_of(work: list[Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for each in work:
            group.create_task(each)


async def _first_of(*work: Coroutine[Any, Any, None]) -> None:
    """Until the first is done or fails; the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in done and (error := task.exception()):
            raise _single(error)


def _single(error: BaseException) -> BaseException:
    """The first of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
