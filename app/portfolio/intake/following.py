"""Everything that the portfolio does on one connection to the bus, and the connections after it.

A connection lives once (app/bus/link/connection.py).  What ends it ends all its tasks; the next
one begins with what the state file has.
"""

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import nats.errors
from nats.js.errors import APIError, NotFoundError

from app.bus.link import names, streams
from app.bus.link.access import Access
from app.bus.link.connection import REQUEST_TIMEOUT_S, BusRefused, BusUnavailable, Link
from app.config.settings import Settings
from app.portfolio.intake.heartbeats import Heartbeats
from app.portfolio.intake.prices import has_ticks, last_prices
from app.portfolio.intake.reader import SILENCE_S, Batch, Reader
from app.portfolio.service import NotStored, Portfolio
from app.portfolio.state import Control, ShardState
from app.runtime.lifecycle import Backoff
from app.runtime.log import get_logger

log = get_logger()

NAME: Final = "portfolio"
DISCOVER_S: Final = 5.0
"""Between two looks for streams of new shards, and at the ends of those that are known."""
PRICES_S: Final = 1.0
RESEND_S: Final = 1.0
"""Before a control that the broker has not taken is offered again."""
OUT_PREFIX: Final = names.out_stream("")


@dataclass
class Progress:
    """How one shard's stream is being read; times are CLOCK_MONOTONIC, 0: never.

    ``pending``: messages that the stream had more than the books when it was last heard.
    """

    reading: bool = False
    pending: int = 0
    heard_s: float = 0.0
    level_s: float = 0.0
    """When the books last had all that the stream had."""
    last_message_s: float = 0.0
    """When the stream had its last message, order or fill: since 1970, by the broker's clock."""
    problem: str = ""
    to_go: int | None = None
    """Messages left of those that the stream had when this reader of it began; None: it has not
    heard yet."""

    def take(self, messages: int, pending: int, now_s: float) -> bool:
        """A batch is in the books; True once they have what the stream had at first."""
        self.to_go = pending if self.to_go is None else max(0, self.to_go - messages)
        self.reading, self.problem = True, ""
        self.pending, self.heard_s = pending, now_s
        if not pending:
            self.level_s, self.to_go = now_s, 0
        return not self.to_go

    def lag_s(self, now_s: float) -> float | None:
        """For how long the books have not had everything; None: they never had."""
        if self.reading and not self.pending and now_s - self.heard_s < SILENCE_S:
            return 0.0
        return now_s - self.level_s if self.level_s else None


class Following:
    """Keeps a portfolio in step with the bus."""

    def __init__(
        self, portfolio: Portfolio, access: Access, settings: Settings, shards: list[str]
    ) -> None:
        """``shards``: those of the shard map; others are found by their streams."""
        self._portfolio, self._access, self._settings = portfolio, access, settings
        self._replicas = settings.bus_replicas
        self._backoff = Backoff(settings.reconnect_delay_ms, settings.reconnect_delay_ms_max)
        self.progress: dict[str, Progress] = {}
        self.heartbeats = Heartbeats()
        self.connections = 0
        self.link: Link | None = None
        self.problem = "not connected yet"
        self._changed = asyncio.Event()
        """There is a control to send."""
        for shard in (*shards, *portfolio.shards):
            self._know(shard)

    def lag_s(self, shard: str) -> float | None:
        """For how long the books do not have all that the shard has: what its stream lacks counts,
        and silence of its publisher.  None: they never had all of the stream."""
        own_s = self.progress[shard].lag_s(time.monotonic())
        return None if own_s is None else max(own_s, self.heartbeats.lag_s(shard))

    def _know(self, shard: str) -> bool:
        """Count a shard in; False if it was known."""
        if shard in self.progress:
            return False
        self.progress[shard] = Progress()
        self._portfolio.know(shard)
        self._portfolio.behind(shard)
        return True

    async def run(self) -> None:
        """Follow until it is canceled.

        Raises:
            BusRefused: the bus will not have us; a setting or the broker must change.
        """
        while True:
            try:
                async with await Link.open(self._access, NAME) as link:
                    self._backoff.reset()
                    self.connections += 1
                    self.link, self.problem = link, ""
                    log.info("bus_connected", server=self.server)
                    await self._use(link)
            except BusUnavailable as error:
                self.problem = str(error)
                log.warning("bus_lost", reason=self.problem)
            finally:
                self.link = None
                for each in self.progress.values():
                    each.reading = False
            await asyncio.sleep(self._backoff.delay_s())

    @property
    def server(self) -> str:
        """The server that we are connected to, without credentials; empty if none."""
        url = self.link.client.connected_url if self.link else None
        return f"{url.hostname}:{url.port}" if url else ""

    async def _use(self, link: Link) -> None:
        """All tasks of a connection, until the first fails."""
        await streams.ensure(link, streams.control(), self._replicas)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch(link))
                group.create_task(self.heartbeats.listen(link))
                group.create_task(self._send(link))
                group.create_task(self._discover(link, group))
        except BaseExceptionGroup as failed:
            raise _worst(failed) from None

    async def _watch(self, link: Link) -> None:
        await link.lost.wait()
        raise BusUnavailable(link.why)

    async def _discover(self, link: Link, group: asyncio.TaskGroup) -> None:
        started: set[str] = set()
        while True:
            for shard in await self._found(link):
                if self._know(shard):
                    log.info("shard_found", shard=shard)
            for shard in sorted(self.progress.keys() - started):
                started.add(shard)
                group.create_task(self._follow(link, shard))
                group.create_task(self._follow_prices(link, shard))
            for shard in sorted(started):
                await self._see_end(link, shard)
            await asyncio.sleep(DISCOVER_S)

    async def _found(self, link: Link) -> list[str]:
        """Shards whose stream exists; without the permission to ask, only those of the map."""
        what = "STREAM.NAMES"
        request = json.dumps({"subject": names.fills_subject("*")}).encode()
        asked = link.client.request(f"{link.api}.{what}", request, timeout=REQUEST_TIMEOUT_S)
        try:
            answer = json.loads((await streams.ask(link, what, asked)).data)
        except BusRefused:
            if not self.progress:
                raise
            return []
        found = answer.get("streams") or []
        shards = [name.removeprefix(OUT_PREFIX) for name in found if name.startswith(OUT_PREFIX)]
        return [shard for shard in shards if names.SHARD_NAME.fullmatch(shard)]

    async def _see_end(self, link: Link, shard: str) -> None:
        """Learn when the stream had its last message: a shard that publishes no more has no lag."""
        what = f"STREAM.INFO.{names.out_stream(shard)}"
        asked = link.client.request(f"{link.api}.{what}", timeout=REQUEST_TIMEOUT_S)
        with contextlib.suppress(BusUnavailable, ValueError):  # asked again soon
            answer = json.loads((await streams.ask(link, what, asked)).data)
            last = (answer.get("state") or {}).get("last_ts", "")
            if last:
                # An empty stream has a time long before 1970.
                self.progress[shard].last_message_s = datetime.fromisoformat(last).timestamp()

    # ---- Fills

    async def _follow(self, link: Link, shard: str) -> None:
        """Read a shard's fills; again from what is stored, whatever goes wrong with it alone."""
        progress = self.progress[shard]
        backoff = Backoff(self._settings.reconnect_delay_ms, self._settings.reconnect_delay_ms_max)
        while True:
            try:
                progress.to_go = None
                state = await self._start(link, shard)
                reader = Reader(
                    link, names.out_stream(shard), names.fills_subject(shard), state.seq
                )
                async with contextlib.aclosing(reader.batches()) as batches:
                    async for batch in batches:
                        self._take(shard, progress, batch)
                        backoff.reset()
            except (BusUnavailable, NotStored) as error:
                if link.lost.is_set():
                    raise BusUnavailable(link.why) from None
                if progress.problem != str(error):
                    log.warning("shard_not_read", shard=shard, reason=str(error))
                progress.problem, progress.reading = str(error), False
            await asyncio.sleep(backoff.delay_s())

    async def _start(self, link: Link, shard: str) -> ShardState:
        """Compare the stream with what the books have of it; returns where to go on."""
        name = names.out_stream(shard)
        try:
            info = await streams.stream_info(link, name)
        except NotFoundError:
            with contextlib.suppress(NotStored):  # looked at again within a second
                self._portfolio.caught_up(shard)  # there is nothing to read
            raise BusUnavailable(f"there is no stream {name} yet") from None
        except APIError as error:
            raise BusUnavailable(f"{name}: {error.description}") from None
        portfolio, born = self._portfolio, f"{info.created or ''}"
        state = portfolio.know(shard)
        if state.stream != born or info.state.last_seq < state.seq:
            portfolio.restart_stream(shard, born)
        first = info.state.first_seq
        if first > portfolio.know(shard).seq + 1:
            portfolio.skip_to(shard, first, first - 1 - portfolio.know(shard).seq)
        return portfolio.know(shard)

    def _take(self, shard: str, progress: Progress, batch: Batch) -> None:
        """Put a batch into the books.

        Raises:
            NotStored: it is not in them.
        """
        if progress.to_go is None and batch.pending:
            self._portfolio.behind(shard)
        self._portfolio.take(shard, batch.messages)
        if progress.take(len(batch.messages), batch.pending, time.monotonic()):
            self._portfolio.caught_up(shard)
        self.wake()

    # ---- Prices

    async def _follow_prices(self, link: Link, shard: str) -> None:
        """Ask for the last ticks; a shard without the stream, or closed to us, has no prices."""
        stream, subject = names.md_stream(shard), names.md_subject(shard)
        portfolio, parsed = self._portfolio, (0, self._portfolio.books)
        while not link.denied(f"{link.api}.DIRECT.GET.{stream}.{subject}"):
            await asyncio.sleep(PRICES_S)
            try:
                message = await link.js.get_last_msg(stream, subject, direct=True)
                if not has_ticks(message.headers) and message.seq and message.seq > 1:
                    # A run has ended, or a symbol moved: the message before has its last prices.
                    message = await link.js.get_msg(stream, message.seq - 1, direct=True)
            except (nats.errors.Error, APIError, TimeoutError, OSError):
                continue
            books = portfolio.books
            if message.data and parsed != (message.seq, books):
                parsed = message.seq or 0, books
                wanted = {symbol.encode() for symbol in books.holdings_of(shard)}
                with contextlib.suppress(NotStored):  # the next message has them
                    portfolio.see_prices(last_prices(message.headers, message.data, wanted))

    # ---- Controls

    def wake(self) -> None:
        """There may be a control to send."""
        if self._portfolio.unsent:
            self._changed.set()

    async def _send(self, link: Link) -> None:
        """Send what no stream has yet, the oldest first; again until it has."""
        while True:
            self._changed.clear()
            for control in self._portfolio.state.unsent_controls():
                await self._send_one(link, control)
            if not self._portfolio.unsent:
                await self._changed.wait()

    async def _send_one(self, link: Link, control: Control) -> None:
        subject = names.control_subject(control.shard)
        sent = link.js.publish(
            subject, control_message(control), headers={names.MSG_ID: control.id}
        )
        try:
            answer = await streams.ask(link, subject, sent)
            self._portfolio.control_arrived(control, answer.seq)
        except (BusUnavailable, BusRefused, APIError, NotStored) as error:
            log.error("control_not_sent", shard=control.shard, id=control.id, reason=str(error))
            await asyncio.sleep(RESEND_S)
        else:
            log.warning("control_sent", shard=control.shard, id=control.id, mode=control.mode)


def control_message(control: Control) -> bytes:
    """What a shard gets on ``control.<shard>``."""
    return json.dumps(
        {
            "id": control.id,
            "mode": control.mode,
            "reason": control.reason,
            "by": NAME,
            "at_ns": control.at_ns,
            "version": 1,
        }
    ).encode()


def _worst(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of the tasks that failed together: a bug before a refusal, a refusal before a lost link."""
    found = list(failed.exceptions)
    return min(found, key=lambda e: (isinstance(e, BusUnavailable), isinstance(e, BusRefused)))
