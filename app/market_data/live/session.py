"""A live session: the receiver's trades become ticks, which are recorded, then handed on.

The order is the promise: a tick is in the recording before anybody sees it, so after a kill at any
moment the session goes on with the next number, and who has seen a tick finds it in the recording.
"""

import os
from typing import Final

import msgspec
import numpy as np

from app.config.settings import Settings
from app.market_data.live.exchange.messages import (
    PACKET_BYTES_MAX,
    TRADES_MARK,
    Noticed,
    Request,
)
from app.market_data.live.exchange.supervised import ReceiverDied, SupervisedReceiver
from app.market_data.live.exchange.trade_map import subscription
from app.market_data.live.intake import Intake, Taken
from app.market_data.live.places import url_of
from app.market_data.live.records import TRADE, Records
from app.market_data.live.tick_log import RecordingFull, TickLog
from app.runtime.log import get_logger

log = get_logger()

NOTICES_S: Final = 10.0
COUNTED_MAX: Final = 1 << 48


class LiveSession(SupervisedReceiver):
    """Starts the receiver and takes what it sends."""

    module = "app.market_data.live.exchange.receiver"
    packet_bytes_max = PACKET_BYTES_MAX

    def __init__(self, settings: Settings, log_file: TickLog, intake: Intake) -> None:
        super().__init__()
        self._settings, self._log, self._intake = settings, log_file, intake
        self._unwritten: Records | None = None
        self._noticed = dict.fromkeys(("refused", "others", "repeated", "late"), 0)
        self._texts = {"refused": "", "others": ""}
        self._next_notices_s = 0.0

    def request(self) -> bytes:
        """What the receiver is asked for."""
        settings = self._settings
        url = url_of(settings.data_path)
        symbols = self._log.symbols
        request = Request(
            url,
            settings.live_map,
            symbols,
            subscription(settings.live_subscribe, settings.live_map, url, symbols),
            settings.live_ca_file,
            settings.live_ping_s,
            settings.reconnect_delay_ms,
            settings.reconnect_delay_ms_max,
            os.getpid(),
        )
        return msgspec.json.encode(request)

    def accept(self, packet: bytes, packets: list[bytes]) -> bool:
        """Trades are passed on."""
        if packet.startswith(TRADES_MARK) and len(packet) % TRADE.itemsize == 1:
            packets.append(packet[1:])
            return True
        return False

    def take(self) -> Records | None:
        """The ticks that have arrived, recorded; None if there are none.

        Raises:
            ReceiverDied: call :meth:`restart`.
        """
        if self._unwritten is not None:
            return self._record(self._unwritten)
        if self._broken:
            raise ReceiverDied
        trades, died = self._packets()
        ticks = self._record(self._number(trades)) if trades else None
        if died and ticks is None:
            raise ReceiverDied
        return ticks

    def _number(self, packets: list[bytes]) -> Records:
        taken = self._intake.take(np.frombuffer(b"".join(packets), TRADE))
        self._tell(taken)
        return taken.ticks

    def _record(self, ticks: Records) -> Records | None:
        """Write the ticks; what cannot be written waits, and nothing else is taken meanwhile."""
        if not len(ticks):
            return None
        try:
            self._log.write(ticks)
        except RecordingFull as error:
            if self.writable:
                mend = "make room; the market goes on by itself"
                path, reason = str(self._log.path), error.strerror or str(error)
                log.error("live_not_recorded", path=path, reason=reason, mend=mend)
            self._unwritten, self.writable = ticks, False
            return None
        if not self.writable:
            log.info("live_recorded_again", path=str(self._log.path))
        self._unwritten, self.writable = None, True
        return ticks

    # ---- what is said about it

    def _tell(self, taken: Taken) -> None:
        counts, symbols = self.counts, self._log.symbols
        counts["live_repeated"] += taken.repeated
        counts["live_late"] += taken.late
        self._noticed["repeated"] += taken.repeated
        self._noticed["late"] += taken.late
        for gap in taken.gaps:
            counts["live_gaps"] += 1
            counts["live_missing"] = min(counts["live_missing"] + gap.missing, COUNTED_MAX)
            self._warn(
                "live_gap", symbol=symbols[gap.symbol], missing=gap.missing, after_id=gap.after
            )
        for symbol in taken.renumbered:
            self._warn("live_ids_restarted", symbol=symbols[symbol])
        for found in taken.ahead:
            ahead_s = round(found.ahead_ns / 1e9, 3)
            text = f"timestamp of {symbols[found.symbol]}: {ahead_s:g} s ahead of this clock"
            self._notice("refused", 1, text)
        counts["live_refused"] += len(taken.ahead)

    def noticed(self, event: Noticed) -> None:
        """Trades that were refused, and messages without trades."""
        self.counts["live_refused"] += event.refused
        self._notice("refused", event.refused, event.refused_text)
        self._notice("others", event.others, event.other_text)

    def _notice(self, kind: str, count: int, text: str) -> None:
        self._noticed[kind] += count
        if text and not self._texts[kind]:
            self._texts[kind] = text

    def maintain(self, now_s: float, *, end: bool = False) -> None:
        """Log what was noticed, at most every :data:`NOTICES_S`: strangers decide how often."""
        super().maintain(now_s, end=end)
        if (now_s < self._next_notices_s and not end) or not any(self._noticed.values()):
            return
        self._next_notices_s = now_s + NOTICES_S
        noticed = self._noticed
        if noticed["refused"]:
            log.warning("live_refused", trades=noticed["refused"], first=self._texts["refused"])
        if noticed["repeated"] or noticed["late"]:
            log.info("live_repeated", dropped=noticed["repeated"], times_held=noticed["late"])
        if noticed["others"]:
            log.info("live_other", messages=noticed["others"], first=self._texts["others"])
        self._noticed = dict.fromkeys(noticed, 0)
        self._texts = dict.fromkeys(self._texts, "")
