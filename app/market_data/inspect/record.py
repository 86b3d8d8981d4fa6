"""``python -m app data record``: a live feed into a Parquet file, with the local receive time."""

import select
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import click
import msgspec

from app.config.loading import settings_or_exit
from app.config.settings import Settings, SettingsError
from app.market_data.inspect.price_port import PricePort
from app.market_data.live.exchange.supervised import ReceiverDied
from app.market_data.live.live_feed import LiveFeed
from app.market_data.live.opening import begin_recording
from app.market_data.live.parquet.parts import write_parquet
from app.market_data.live.places import url_of
from app.market_data.live.session import LiveSession
from app.market_data.live.tick_log import MAGIC, SUFFIX, RecordingFull, TickLog
from app.market_data.sources.errors import DataError
from app.model.wire.frames import RemoteProtocolError
from app.runtime.lifecycle import Stop
from app.runtime.log import get_logger, setup_logging
from app.runtime.net.feed_client import FeedClosed
from app.runtime.readable import if_refused

log = get_logger()

WAIT_S: Final = 0.25
SHOW_EVERY_S: Final = 1.0
LOG_EVERY_S: Final = 10.0


class Recorder(Protocol):
    """What is recorded."""

    recording: TickLog

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""

    def step(self) -> None:
        """Wait a moment, and record what arrives."""

    @property
    def missing(self) -> int:
        """How many ticks are known to be missing."""

    def close(self) -> None:
        """End the connection."""


class SocketRecorder:
    """An exchange's websocket."""

    ended = False

    def __init__(self, settings: Settings, path: Path) -> None:
        self._feed: LiveFeed
        self._session: LiveSession
        self._feed, self._session = begin_recording(settings, path)
        self.recording = self._feed.log
        self._descriptor: int | None = self._session.start()

    def step(self) -> None:
        """Wait a moment, and record what arrives."""
        if self._descriptor is None or not self._session.writable:
            time.sleep(WAIT_S)
        else:
            select.select([self._descriptor], [], [], WAIT_S)
        if self._descriptor is not None:
            try:
                self._session.take()
            except ReceiverDied:
                self._session.restart()
                self._descriptor = None
        now_s = time.monotonic()
        self._session.maintain(now_s)
        started = self._session.respawn(now_s)
        self._descriptor = self._descriptor if started is None else started

    @property
    def missing(self) -> int:
        """By the exchange's trade ids."""
        return self._session.counts["live_missing"]

    def close(self) -> None:
        """End the connection."""
        self._session.close()


class PortRecorder:
    """The price port of a gateway; it sends again what is missing, so nothing is."""

    missing = 0

    def __init__(self, settings: Settings, where: str, path: Path) -> None:
        host, _, port = where.rpartition(":")
        self._port = PricePort(settings, host, int(port))
        first_seq = _count(path)
        symbols, source = self._port.open(first_seq)
        self.recording, _ = TickLog.append(path, symbols, source)
        if self.recording.source != source or self.recording.count != first_seq:
            raise DataError(f"{path}: recorded from {self.recording.source}: choose another OUT")

    @property
    def ended(self) -> bool:
        """Whether the run has ended."""
        return self._port.ended

    def step(self) -> None:
        """Wait a moment, and record what arrives."""
        self._port.take(self.recording)

    def close(self) -> None:
        """End the connection."""
        self._port.close()


def _count(path: Path) -> int:
    """How many whole ticks a recording has; 0 if there is none yet."""
    if not path.exists():
        return 0
    recording = TickLog.read(path)
    with_symbols = recording.symbols
    recording.close()
    recording, _ = TickLog.append(path, with_symbols, "")
    recording.close()
    return recording.count


def is_recording(path: Path) -> bool:
    """Whether a file is the recording of a live feed."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC
    return False


def write_recording(path: Path, out: Path) -> None:
    """Write a recording as one Parquet file.

    Raises:
        DataError: the recording is damaged.
        OSError: the file cannot be written.
    """
    recording = TickLog.read(path)
    try:
        write_parquet(recording, out, 0, recording.count)
    finally:
        recording.close()


@click.command()
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("source", required=False)
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="stop after that time")
@click.option("--ticks", type=click.IntRange(min=1), help="stop after that many ticks")
@click.option("--force", is_flag=True, help="overwrite OUT")
def record(
    out: Path, source: str | None, seconds: float | None, ticks: int | None, force: bool
) -> int:
    """Record a live feed to OUT, a .parquet file, until Ctrl-C.

    SOURCE is an address such as wss://... (with LIVE_SYMBOLS and the other LIVE_ settings), or
    HOST:PORT, the price port of a gateway, which is recorded from the first tick of its run on.
    Default: DATA_PATH if it is an address, else the gateway of the settings.

    Meanwhile the ticks are in a .ticks file beside OUT.  If the command is killed, the same command
    goes on, and data convert makes a .parquet file of it, too.

    Exit code 0: written, 1: not, or nothing has arrived, 2: wrong usage.
    """
    settings = settings_or_exit("data")
    if out.suffix != ".parquet":
        raise click.UsageError(f"OUT must end in .parquet, not {out.name}")
    if out.exists() and not force:
        raise click.UsageError(f"{out} exists; --force overwrites it")
    source = source or (settings.data_path if settings.is_exchange else "")
    source = source or f"{settings.gateway_host}:{settings.price_port}"
    is_url = bool(url_of(source))
    if not is_url and not source.rpartition(":")[2].isdecimal():
        raise click.UsageError(f"SOURCE must be ws://..., wss://... or HOST:PORT, not {source}")
    setup_logging("data", settings.log_level, settings.log_format)
    stop = Stop()
    stop.install()
    path = out.with_suffix(SUFFIX)
    try:
        recorder: Recorder
        if is_url:
            chosen = msgspec.structs.replace(settings, data_path=source)
            recorder = SocketRecorder(chosen, path)
        else:
            recorder = PortRecorder(settings, source, path)
        try:
            _run(recorder, stop, seconds, ticks)
        finally:
            recorder.close()
        return _finish(recorder, path, out, ticks)
    except (DataError, SettingsError, FeedClosed, RemoteProtocolError) as error:
        print(f"data: {error}{if_refused(error.__cause__, 'PRICE_PORT')}", file=sys.stderr)
    except RecordingFull as error:
        print(f"data: {path}: {error.strerror}; the ticks so far are in it", file=sys.stderr)
    except OSError as error:
        print(f"data: {out}: {error.strerror or error}", file=sys.stderr)
    return 1


def _run(recorder: Recorder, stop: Stop, seconds: float | None, ticks: int | None) -> None:
    terminal = sys.stderr.isatty()
    began_s = shown_s = time.monotonic()
    shown = recorder.recording.count
    every_s = SHOW_EVERY_S if terminal else LOG_EVERY_S
    while not stop and not recorder.ended:
        recorder.step()
        now_s, count = time.monotonic(), recorder.recording.count
        if (seconds is not None and now_s - began_s >= seconds) or (ticks and count >= ticks):
            break
        if now_s - shown_s < every_s:
            continue
        per_s = round((count - shown) / (now_s - shown_s))
        shown_s, shown = now_s, count
        if terminal:
            text = f"{count:,} ticks, {per_s:,}/s, {recorder.missing:,} missing; Ctrl-C ends"
            print(f"\r{text:70}", end="", file=sys.stderr, flush=True)
        else:
            log.info("recording", ticks=count, per_s=per_s, missing=recorder.missing)
    if terminal:
        print(file=sys.stderr)


def _finish(recorder: Recorder, path: Path, out: Path, ticks: int | None) -> int:
    recording = recorder.recording
    count = min(recording.count, ticks or recording.count)
    if not recording.count:
        recording.close()
        path.unlink()
        print(f"data: {out}: not written: no tick has arrived", file=sys.stderr)
        return 1
    write_parquet(recording, out, 0, count)
    recording.close()
    path.unlink()
    missing = f", {recorder.missing:,} missing" if recorder.missing else ""
    symbols = f"{len(recording.symbols):,} symbols"
    print(f"{out}: {count:,} ticks of {symbols}{missing}")
    return 0
