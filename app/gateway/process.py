"""The gateway process: streams the feed to any number of clients on two ports."""

import gc
import itertools
import signal
from pathlib import Path
from typing import Final

from app.config.loading import load_settings
from app.config.settings import Settings
from app.gateway.server import GUESTS_MAX, FeedServer
from app.market_data.feed import Feed
from app.market_data.live.bus.opening import begin_bus_recording
from app.market_data.live.exchange.supervised import SupervisedReceiver
from app.market_data.live.opening import begin_recording
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import columns_of, load_files, load_track, open_feed
from app.market_data.sources.progress import LoadInterrupted, LoadProgress
from app.runtime.lifecycle import EXIT_FAULT, FatalError, RunFailed, Stop
from app.runtime.log import get_logger
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.net.feed_access import (
    FeedAccess,
    published_host,
    sends_token_in_the_clear,
)
from app.runtime.net.listener import raise_descriptor_limit
from app.runtime.net.tls_relay import DESCRIPTORS_EACH
from app.runtime.process import run_process
from app.runtime.trace.writer import TraceSegment

log = get_logger()

STACK_CLIENTS: Final = 128
"""Connections of the stack's own processes, which do not count as clients: with many strategies."""

WITHOUT_TLS: Final = (
    "clients of other machines send the token unencrypted: set ORDER_TLS_CERT_FILE and "
    "ORDER_TLS_KEY_FILE"
)


def load_data(
    path: str | Path | None = None, settings: Settings | None = None
) -> tuple[list[bytes], list[str], list[bytes]]:
    """The file's frames as sent on the wire, without the ticks that REPLAY adds after its end.

    Returns ``(price_frames, symbols, sentiment_frames)``: one ``timestamp*symbol*value*`` for each
    row in file order, and the symbols in order of first appearance.  ``path``: else DATA_PATH.

    Raises:
        DataError: lists every reason why the file cannot be used.
    """
    settings = load_settings() if settings is None else settings
    rows = load_files(str(path or settings.data_path), columns_of(settings))
    track, _ = load_track(settings, rows)
    ends, frames = track.offsets.tolist(), track.frames.tobytes()
    sentiments = [frames[a:b] for a, b in itertools.pairwise(ends)]
    return [rows.frame(row) for row in range(len(rows))], rows.symbols, sentiments


def _open(
    settings: Settings, metrics: ProcessMetrics, stop: Stop
) -> tuple[Feed, SupervisedReceiver | None]:
    """The feed, and what makes it grow if it is a live one.

    Raises:
        DataError: data, recording or settings cannot be used.
        LoadInterrupted: the process is to stop.
    """
    if settings.is_bus:
        return begin_bus_recording(settings, lambda: bool(stop), metrics.heartbeat)
    if settings.is_live:
        return begin_recording(settings)
    with LoadProgress(lambda: bool(stop)) as progress:
        return open_feed(settings, progress), None


def _body(settings: Settings, metrics: ProcessMetrics, stop: Stop) -> int:
    access = FeedAccess.from_settings(settings)
    if sends_token_in_the_clear(settings):
        log.warning("feed_without_tls", host=published_host(settings), mend=WITHOUT_TLS)
    try:
        feed, live = _open(settings, metrics, stop)
    except LoadInterrupted:
        return 0
    except DataError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        for line in str(error).splitlines():
            log.error("data_refused", reason=line)
        # The first line says how many rows are bad, the second shows one.
        raise RunFailed(EXIT_FAULT, "; ".join(lines[:2]), over=False, final=True) from None
    if feed.rows_skipped:
        log.warning("rows_skipped", path=settings.shown_data_path, rows=feed.rows_skipped)
    raise_descriptor_limit(
        settings.gateway_clients_max + GUESTS_MAX + STACK_CLIENTS,
        descriptors_each=DESCRIPTORS_EACH if access.tls is not None else 1,
    )
    # The loaded data stays until the end: keep the garbage collector from scanning it.
    gc.freeze()
    with FeedServer(
        settings,
        feed,
        lambda: bool(stop),
        metrics,
        proof=metrics.stack_proof,
        access=access,
        live=live,
    ) as server:
        if trace := TraceSegment.open(settings, metrics):
            server.prices.times = trace.gateway
        try:
            price_port, sentiment_port = server.listen()
            control_port = server.listen_control()
        except OSError as error:
            raise FatalError(
                f"cannot listen on {settings.bind_host}, ports {settings.price_port}, "
                f"{settings.sentiment_port} and {settings.control_port}: "
                f"{error.strerror or error}"
            ) from None
        signal.set_wakeup_fd(server.waker_descriptor, warn_on_full_buffer=False)
        metrics.set_state("ready")
        log.info(
            "ready",
            price_port=price_port,
            sentiment_port=sentiment_port,
            symbols=len(feed.symbols),
            ticks_in_file=feed.ticks_in_file,
            replay="live" if settings.is_live else settings.replay,
            feed_id=feed.feed_id,
            control_port=control_port,
        )
        try:
            server.run()
        finally:
            signal.set_wakeup_fd(-1)
    return 0


def main() -> int:
    """Run the gateway; exit code 0 after a stop, 1 on a fault, 2 on invalid settings."""
    return run_process("gateway", _body)
