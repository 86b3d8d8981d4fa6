"""``python -m app.bus shard``: publishes the order store of a stack, and takes its controls.

It is beside the order manager, never before it: orders do not wait for the bus.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable
from typing import Any, Final

import apsw
import msgspec
import nats.errors

from app.bus.figures import serving
from app.bus.link import names, streams
from app.bus.link.access import Access, bus_access
from app.bus.link.connection import BusUnavailable, Link
from app.bus.link.messages import HEARTBEAT_S, Heartbeat
from app.bus.outbox.bus_loss import BusLoss
from app.bus.outbox.controls import Controls
from app.bus.outbox.figures import status_figures
from app.bus.outbox.mark_file import MarkFile
from app.bus.outbox.order_port import OrderPortError
from app.bus.outbox.publisher import Publisher, Resync
from app.bus.outbox.store_reader import StoreReader
from app.bus.process import run_bus_process
from app.config.settings import Settings, SettingsError
from app.order_manager.access.bus_watch import ours_of
from app.order_manager.store.files import mark_path, store_path
from app.order_manager.store.schema import StoreError
from app.runtime.lifecycle import EXIT_OK, Backoff, FatalError, Stop
from app.runtime.log import get_logger

log = get_logger()

IDLE_S: Final = 0.01
"""Between two looks at a store in which nothing happens."""
IDLE_LONG_S: Final = 0.05
IDLE_LONG_AFTER_S: Final = 2.0
LOG_S: Final = 10.0
LOOK_S: Final = 0.25
LOST_S: Final = 1.0
"""A bus that is silent for less than this is not lost."""


class Outbox:
    """The parts of the process, and what they do in turn."""

    def __init__(self, settings: Settings, access: Access, stop: Stop) -> None:
        self._settings, self._access, self._stop = settings, access, stop
        self._store = StoreReader(store_path(settings))
        self._file = MarkFile(mark_path(self._store.path))
        self._publisher = Publisher(settings.shard, self._store, self._file)
        # It asks from a thread, and SQLite's connections stay in theirs.
        self._loss = BusLoss(settings, StoreReader(self._store.path))
        self._controls = Controls(settings, self._file, self._loss)
        self._complete = False
        """Whether the stream has had everything since the last trouble with the bus."""
        self._link: Link | None = None
        self._logged: tuple[int, ...] = ()
        self._status: dict[str, Any] = {"shard": settings.shard}

    async def run(self) -> int:
        """Until a stop is requested."""
        try:
            async with serving(self._settings, lambda: status_figures(self._status)):
                await self._first_of(self._publish_always(), self._watch(), self._speak())
        finally:
            self._write_status()
            self._file.close()
        return EXIT_OK

    async def _publish_always(self) -> None:
        backoff = Backoff(self._settings.reconnect_delay_ms, self._settings.reconnect_delay_ms_max)
        last = ""
        while not self._stop:
            try:
                async with await Link.open(self._access, f"shard-{self._settings.shard}") as link:
                    self._link = link
                    self._publisher.counts.connections += 1
                    await self._serve(link, backoff)
            except BusUnavailable as error:
                if str(error) != last:
                    log.warning("bus_unavailable", reason=str(error))
                last = str(error)
            if self._complete:
                self._complete, last = False, ""
            if not self._stop:
                await asyncio.sleep(backoff.delay_s())

    async def _serve(self, link: Link, backoff: Backoff) -> None:
        settings = self._settings
        for stream in (streams.out(settings.shard), streams.control()):
            await streams.ensure(link, stream, settings.bus_replicas)
        await self._publisher.sync(link)
        log.info(
            "bus_connected",
            server=link.client.connected_url.netloc if link.client.connected_url else "",
            stream=names.out_stream(settings.shard),
            has=self._publisher.marks.text(),
        )
        await self._first_of(self._publish(link, backoff), self._controls.run(link))

    async def _publish(self, link: Link, backoff: Backoff) -> None:
        """Publish until the connection is lost, or a message is refused."""
        idle_since_s = time.monotonic()
        due = True
        while not self._stop:
            if link.lost.is_set():
                raise BusUnavailable(f"the connection is lost: {link.why}")
            try:
                due = due or self._store.changed()
                if due and await self._publisher.publish_new(link):
                    idle_since_s = time.monotonic()
                due = False
                backoff.reset()
                self._complete, self._publisher.progress_s = True, time.monotonic()
            except Resync as error:
                self._publisher.counts.resyncs += 1
                log.info(
                    "bus_resync", stream=names.out_stream(self._settings.shard), why=str(error)
                )
                await asyncio.sleep(0.05)
                await self._publisher.sync(link)
                due = True
                continue
            except apsw.BusyError:
                due = True
            long = time.monotonic() - idle_since_s > IDLE_LONG_AFTER_S
            await asyncio.sleep(IDLE_LONG_S if long else IDLE_S)

    async def _speak(self) -> None:
        """Tell the order manager that the bus is there."""
        said = ""
        while not self._stop:
            is_there = time.monotonic() - self._publisher.progress_s < LOST_S
            if is_there and self._loss.is_due():
                known = self._complete and self._controls.drained.is_set()
                try:
                    await asyncio.to_thread(self._loss.look, known)
                    said = ""
                except (OrderPortError, StoreError, apsw.Error) as error:
                    if str(error) != said:
                        log.warning("bus_loss_waits", reason=str(error))
                    said = str(error)
            await asyncio.sleep(LOOK_S)

    async def _watch(self) -> None:
        """Say how far the stream is: beside the store, in the log, and on the bus."""
        next_log_s = 0.0
        while not self._stop:
            status = self._write_status()
            await self._beat(status)
            if (now_s := time.monotonic()) >= next_log_s:
                next_log_s = now_s + LOG_S
                self._log(status)
            await asyncio.sleep(HEARTBEAT_S)

    async def _beat(self, status: dict[str, Any]) -> None:
        """A heartbeat for whoever watches all shards; who may not send it, sends none."""
        link, subject = self._link, names.heartbeat_subject(self._settings.shard)
        if link is None or link.denied(subject):
            return
        lag = {name: max(0, status.get(name, 0)) for name in Heartbeat.__struct_fields__}
        with contextlib.suppress(nats.errors.Error, OSError):
            await link.client.publish(subject, msgspec.json.encode(Heartbeat(**lag)))

    def _write_status(self) -> dict[str, Any]:
        """How far the stream is behind the store, for ``python -m app.bus status`` and the log."""
        publisher, marks = self._publisher, self._publisher.marks
        status: dict[str, Any] = {
            "at_ns": time.time_ns(),
            "shard": self._settings.shard,
            "connected": self._complete,
            "restricted": False,
            "connections": publisher.counts.connections,
            "sent": publisher.counts.sent,
            "published": publisher.counts.published,
            "resyncs": publisher.counts.resyncs,
            "refused": publisher.counts.refused,
            "controls": self._controls.taken,
            "orders": marks.orders,
            "fills": marks.fills,
            "changes": marks.changes,
        }
        with contextlib.suppress(apsw.Error, StoreError):
            status["restricted"] = ours_of(self._store.stack_mode()) is not None
            last = self._store.last()
            if last is not None:
                status["lag_rows"] = last.total - marks.total
                oldest = self._store.time_of(marks.orders)
                status["lag_s"] = round((time.time_ns() - oldest) / 1e9, 3) if oldest else 0.0
            self._file.write_status(status)
        self._status = status
        return status

    def _log(self, status: dict[str, Any]) -> None:
        shown = {name: value for name, value in status.items() if name not in ("at_ns", "shard")}
        figures = tuple(value for name, value in sorted(shown.items()) if name != "lag_s")
        if figures != self._logged:
            self._logged = figures
            log.info("outbox", **shown)

    async def _first_of(self, *parts: Awaitable[None]) -> None:
        """Run until the first part ends, then end the others."""
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _serve(settings: Settings, stop: Stop) -> int:
    if not settings.shard:
        raise SettingsError("SHARD: required here, the name of this stack on the bus, such as a")
    access = bus_access(settings)
    log.info(
        "starting", shard=settings.shard, bus=settings.bus_url, on_bus_loss=settings.on_bus_loss
    )
    try:
        return asyncio.run(Outbox(settings, access, stop).run())
    except StoreError as error:
        raise FatalError(str(error)) from None


def main() -> int:
    """Run the process; returns its exit code."""
    return run_bus_process("shard", _serve)
