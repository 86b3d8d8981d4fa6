"""Follows the recording of a live run that another process writes."""

from app.config.settings import Settings
from app.market_data.live.bus.batch_log import SUFFIX, BatchLog
from app.market_data.live.bus.feed import BusFeed
from app.market_data.live.live_feed import LiveFeed
from app.market_data.live.places import find_recording
from app.market_data.live.tick_log import TickLog


def follow_recording(settings: Settings) -> LiveFeed:
    """The feed of a live run, as far as it is recorded; it grows.

    Raises:
        DataError: there is no recording, or it is damaged.
        FatalError: RUN_DIR cannot be read.
    """
    if settings.is_bus:
        return BusFeed(BatchLog.read(find_recording(settings, SUFFIX)), follows=True)
    return LiveFeed(TickLog.read(find_recording(settings)), settings, follows=True)
