"""The price port of a gateway as something to record, from the run's first tick on."""

import time
from decimal import Decimal
from typing import Final

import msgspec
import numpy as np

from app.config.settings import Settings
from app.market_data.live.records import TICK, Records
from app.market_data.live.tick_log import TickLog
from app.market_data.sources.errors import DataError
from app.market_data.sources.value_columns import normalize_price
from app.model.money import decimal_to_units
from app.model.timestamps import parse_timestamp
from app.model.wire.feed_protocol import parse_mark
from app.model.wire.frames import DELIMITER, RemoteProtocolError
from app.runtime.lifecycle import Backoff
from app.runtime.log import get_logger
from app.runtime.net.feed_client import FeedClosed, FeedConnection
from app.runtime.net.feed_dialer import FeedDialer

log = get_logger()

FIELDS: Final = 3


class PricePort:
    """Asks for the ticks that a recording lacks; ``ended``: there are no more.

    The trade id of a tick is its sequence number.
    """

    def __init__(self, settings: Settings, host: str, port: int) -> None:
        self._where = f"{host}:{port}"
        chosen = msgspec.structs.replace(settings, gateway_host=host, price_port=port)
        self._dialer = FeedDialer(chosen)
        self._backoff = Backoff(settings.reconnect_delay_ms, settings.reconnect_delay_ms_max)
        self._feed: FeedConnection | None = None
        self._retry_s = 0.0
        self.ended = False

    def open(self, first_seq: int) -> tuple[list[str], str]:
        """Connect; returns the symbols, and what the feed is.

        Raises:
            FeedClosed, RemoteProtocolError: there is no gateway, or it does not let us in.
            DataError: it is no gateway of this kind of stack.
        """
        self._feed = self._dialer.prices(first_seq, "")
        if not self._feed.sequenced or self._feed.symbols is None:
            raise DataError(f"{self._where}: this feed numbers no ticks, so it cannot be recorded")
        self._backoff.reset()
        return self._feed.symbols, f"{self._where} {self._feed.feed_id}"

    def take(self, recording: TickLog) -> Records | None:
        """Wait a moment; the ticks that have arrived, in the recording.

        Raises:
            DataError: the gateway has begun another run.
        """
        feed = self._connected(recording)
        if feed is None:
            return None
        try:
            feed.receive()
            ticks = self._parse(feed, recording)
        except (FeedClosed, RemoteProtocolError) as error:
            self._lost(error)
            return None
        if not len(ticks):
            return None
        recording.write(ticks)
        return ticks

    def _connected(self, recording: TickLog) -> FeedConnection | None:
        if self._feed is not None:
            return self._feed
        if time.monotonic() < self._retry_s:
            time.sleep(0.05)
            return None
        try:
            symbols, source = self.open(recording.count)
        except (FeedClosed, RemoteProtocolError) as error:
            self._lost(error)
            return None
        if symbols != recording.symbols or source != recording.source:
            raise DataError(
                f"{self._where}: the gateway has begun another run: record it into another file"
            )
        return self._feed

    def _lost(self, error: Exception) -> None:
        self.close()
        pause_s = self._backoff.delay_s()
        self._retry_s = time.monotonic() + pause_s
        log.warning("feed_lost", error=str(error))

    def _parse(self, feed: FeedConnection, recording: TickLog) -> Records:
        """The whole ticks in the buffer.

        Raises:
            RemoteProtocolError: something in it is neither a tick nor a mark.
        """
        receive_ns, end = time.time_ns(), feed.buffer.rfind(DELIMITER, 0, feed.fill) + 1
        frames = bytes(feed.buffer[:end]).split(DELIMITER)[:-1]
        index = {symbol.encode(): at for at, symbol in enumerate(recording.symbols)}
        found: list[tuple[int, int, int]] = []
        at = used = 0
        while at < len(frames):
            if self._is_mark(frames[at], recording.count + len(found)):
                used += len(frames[at]) + 1
                at += 1
                continue
            fields = frames[at : at + FIELDS]
            if len(fields) < FIELDS:
                break
            found.append(_tick(fields, index))
            used += sum(map(len, fields)) + FIELDS
            at += FIELDS
        feed.consume(used)
        ticks = np.zeros(len(found), TICK)
        if found:
            ticks["event_ns"], ticks["symbol"], ticks["price"] = np.array(found).T
        ticks["exchange_ns"], ticks["receive_ns"] = ticks["event_ns"], receive_ns
        ticks["trade_id"] = np.arange(recording.count, recording.count + len(found))
        ticks["qty"] = np.nan
        return ticks

    def _is_mark(self, frame: bytes, seq: int) -> bool:
        for name in ("BEAT", "END"):
            if (sent := parse_mark(frame, name)) is not None:
                if sent != seq:
                    raise RemoteProtocolError(f"{sent} ticks were sent, {seq} have arrived")
                self.ended = self.ended or name == "END"
                return True
        return False

    def close(self) -> None:
        """Close the connection."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None


def _tick(fields: list[bytes], index: dict[bytes, int]) -> tuple[int, int, int]:
    try:
        event_ns, _ = parse_timestamp(fields[0])
        price = normalize_price(fields[2])
        return event_ns, index[fields[1]], decimal_to_units(Decimal(price.decode()))
    except (ValueError, KeyError) as error:
        raise RemoteProtocolError(f"malformed tick {b'*'.join(fields)[:80]!r}: {error}") from None
