"""Begins to record a shard's run from the bus, or goes on with it."""

import select
import time
from collections.abc import Callable
from typing import Final

from app.config.settings import Settings
from app.market_data.live.bus.batch_log import SUFFIX, BatchLog, Record
from app.market_data.live.bus.feed import BusFeed
from app.market_data.live.bus.session import BusSession
from app.market_data.live.exchange.supervised import ReceiverDied
from app.market_data.live.places import recording_of
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import checked_symbols
from app.market_data.sources.progress import LoadInterrupted
from app.runtime.log import get_logger

log = get_logger()

POLL_S: Final = 0.25
WAITS_EVERY_S: Final = 10.0


def begin_bus_recording(
    settings: Settings, stopped: Callable[[], bool], waits: Callable[[], None]
) -> tuple[BusFeed, BusSession | None]:
    """The feed of the run, and what makes it grow; None: the run is recorded to its end.

    Waits until the run has begun; ``waits`` is called meanwhile, some times a second.

    Raises:
        DataError: the recording cannot be used.
        LoadInterrupted: ``stopped()`` is true.
        FatalError: the stream cannot be used, or RUN_DIR cannot be read or written.
    """
    path = recording_of(settings, SUFFIX)
    session = BusSession(settings)
    recording = BatchLog.append(path)
    try:
        if recording is None:
            recording = BatchLog.append(path, _first(session, stopped, waits))
        assert recording is not None
        checked_symbols(f"md.{recording.begin.shard}", recording.symbols)
        feed = BusFeed(recording)
        if cut := recording.cut_tail():
            log.warning("live_tail_cut", path=str(path), bytes=cut)
        session.follow(feed)
        _check_run(session, recording)
    except BaseException:
        session.close()
        if recording is not None:
            recording.close()
        raise
    return feed, None if session.ended else session


def _check_run(session: BusSession, recording: BatchLog) -> None:
    """Whether the recording is of the stream that DATA_PATH names.

    Raises:
        DataError: it is of another one.
    """
    wanted, begin = session.source, recording.begin
    if begin.shard != wanted.shard or (wanted.run and begin.run != wanted.run):
        raise DataError(
            f"{recording.path}: recorded from run {begin.run} of md.{begin.shard}, and DATA_PATH "
            f"wants {wanted.run or 'the last run'} of md.{wanted.shard}: set another RUN_ID or "
            "LIVE_RECORD"
        )


def _first(session: BusSession, stopped: Callable[[], bool], waits: Callable[[], None]) -> Record:
    """The message that begins the run."""
    session.start()
    said_s = time.monotonic()
    while (first := _look(session)) is None:
        if stopped():
            raise LoadInterrupted
        waits()
        now_s = time.monotonic()
        session.maintain(now_s)
        session.respawn(now_s)
        if now_s >= said_s + WAITS_EVERY_S:
            said_s = now_s
            shard, run = session.source
            stream = f"md.{shard}"
            log.info("bus_waits", stream=stream, run=run or "any", connected=session.connected)
    return first


def _look(session: BusSession) -> Record | None:
    descriptor = session.descriptor
    select.select([] if descriptor is None else [descriptor], [], [], POLL_S)
    try:
        return session.first() if descriptor is not None else None
    except ReceiverDied:
        session.restart()
        return None
