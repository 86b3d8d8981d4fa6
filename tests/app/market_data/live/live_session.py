"""A live session without the gateway's ports, and what it logs."""

import contextlib
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from app.config.settings import Settings
from app.market_data.live.exchange.supervised import ReceiverDied
from app.market_data.live.opening import begin_recording
from tests.app.market_data.live.fake_exchange import SYMBOLS, FakeExchange
from tests.support.children import eventually

Logged = list[Any]


def settings_of(exchange: FakeExchange, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "data_path": exchange.url,
        "live_symbols": " ".join(SYMBOLS),
        "live_ping_s": 0.5,
        "reconnect_delay_ms": 20,
        "reconnect_delay_ms_max": 50,
    }
    return Settings(**values | changes)


class Session:
    """What the gateway does with a session, without its ports."""

    def __init__(self, settings: Settings, path: Path) -> None:
        self.feed, self.session = begin_recording(settings, path)
        self.session.start()

    @property
    def counts(self) -> dict[str, int]:
        return self.session.counts

    @property
    def receiver(self) -> Any:
        return self.session._process

    def turn(self) -> None:
        """Take what has arrived within a few milliseconds."""
        source = self.session._socket
        if source is None:
            time.sleep(0.005)
            return
        if self.session.writable:
            select.select([source], [], [], 0.005)
        with contextlib.suppress(ReceiverDied):
            ticks = self.session.take()
            if ticks is not None:
                self.feed.grow(ticks)
            self.session.maintain(time.monotonic())
            return
        self.session.restart()

    def until(self, what: str, holds: Callable[[], object], deadline_s: float = 20.0) -> None:
        def step() -> object:
            self.turn()
            self.session.respawn(time.monotonic())
            return holds()

        eventually(step, what, deadline_s, poll_s=0.0)

    def until_all(self, exchange: FakeExchange) -> None:
        """Until the exchange has played all, and nothing more comes."""
        exchange.paused = True
        last, seen = time.monotonic(), -1

        def quiet() -> bool:
            nonlocal last, seen
            if self.feed.available != seen:
                last, seen = time.monotonic(), self.feed.available
            return time.monotonic() - last > 0.4

        self.until("quiet", quiet)

    def ids(self) -> list[tuple[int, int]]:
        ticks = self.feed.log.ticks(0, self.feed.available)
        return list(zip(ticks["symbol"].tolist(), ticks["trade_id"].tolist(), strict=True))


@contextlib.contextmanager
def session(settings: Settings, path: Path) -> Iterator[Session]:
    made = Session(settings, path / "run.ticks")
    try:
        yield made
    finally:
        made.session.close()
        made.feed.log.close()


def sent(exchange: FakeExchange) -> list[tuple[int, int]]:
    return [(SYMBOLS.index(each["s"]), each["t"]) for each in exchange.sent]


def events(lines: Logged, name: str) -> list[Any]:
    return [line for line in lines if line["event"] == name]
