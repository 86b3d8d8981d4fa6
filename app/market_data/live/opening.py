"""Begins to record a live feed, or goes on with it."""

from pathlib import Path

from app.config.addresses import shown_address
from app.config.settings import Settings
from app.market_data.live.exchange.trade_map import MapError, TradeMap, parse_symbols
from app.market_data.live.intake import Intake
from app.market_data.live.live_feed import LiveFeed
from app.market_data.live.places import recording_of, url_of
from app.market_data.live.session import LiveSession
from app.market_data.live.tick_log import TickLog
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import checked_symbols
from app.model.timestamps import MIN_EVENT_NS
from app.runtime.log import get_logger

log = get_logger()


def begin_recording(settings: Settings, path: Path | None = None) -> tuple[LiveFeed, LiveSession]:
    """Begin to record the run's live feed, or go on where a killed process has stopped.

    ``path``: of the recording, else that of the run.

    Raises:
        DataError: a setting of the live feed, or the recording, cannot be used.
        FatalError: RUN_DIR cannot be read or written.
    """
    symbols = _checked(settings)
    path = path or recording_of(settings)
    recording, cut = TickLog.append(path, symbols, shown_address(url_of(settings.data_path)))
    if cut:
        log.warning("live_tail_cut", path=str(path), bytes=cut)
    feed = LiveFeed(recording, settings)
    intake = Intake(len(symbols))
    if feed.available:
        intake.restore(feed.live.last_ids.tolist(), feed.event_ns(feed.available - 1))
    else:
        intake.restore([-1] * len(symbols), MIN_EVENT_NS)
    return feed, LiveSession(settings, recording, intake)


def _checked(settings: Settings) -> list[str]:
    """The symbols, if all settings of the live feed can be used.

    Raises:
        DataError: they cannot.
    """
    try:
        symbols = parse_symbols(settings.live_symbols)
    except MapError as error:
        raise DataError(f"LIVE_SYMBOLS={settings.live_symbols[:100]}: {error}") from None
    try:
        TradeMap(settings.live_map, symbols)
    except MapError as error:
        raise DataError(f"LIVE_MAP={settings.live_map[:100]}: {error}") from None
    if settings.live_ca_file and not Path(settings.live_ca_file).is_file():
        raise DataError(f"LIVE_CA_FILE={settings.live_ca_file}: no such file")
    checked_symbols("LIVE_SYMBOLS", symbols)
    return symbols
