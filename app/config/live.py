"""Which settings go together where ticks arrive while the run goes on."""

from collections.abc import Iterator
from typing import Protocol

from app.config.bus import SourceSettings, bus_source_problems


class LiveSettings(SourceSettings, Protocol):
    """The part of the settings that this module reads."""

    @property
    def is_bus(self) -> bool: ...
    @property
    def is_exchange(self) -> bool: ...
    @property
    def live_symbols(self) -> str: ...
    @property
    def replay(self) -> str: ...
    @property
    def shown_data_path(self) -> str: ...


def live_problems(settings: LiveSettings) -> Iterator[str]:
    """What is wrong with the settings of a live feed, one line per problem."""
    if settings.is_bus:
        yield from bus_source_problems(settings)
    if not settings.is_exchange:
        return
    if not settings.live_symbols:
        yield (
            "LIVE_SYMBOLS=: a live feed needs its symbols, as the exchange writes them, such as "
            "BTCUSDT,ETHUSDT"
        )
    if settings.replay == "once":
        yield (
            f"REPLAY=once: the live feed DATA_PATH={settings.shown_data_path[:60]} has no end; "
            "replay its recording instead"
        )
    if settings.sentiment_path:
        yield "SENTIMENT_PATH: a live feed has generated sentiment only; leave it empty"
