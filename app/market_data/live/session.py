"""A live session: the receiver's trades become ticks, which are recorded, then handed on.

The order is the promise: a tick is in the recording before anybody sees it, so after a kill at any
moment the session goes on with the next number, and who has seen a tick finds it in the recording.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from app.config.addresses import shown_address
from app.config.settings import Settings
from app.market_data.live.exchange.messages import (
    EVENT_MARK,
    PACKET_BYTES_MAX,
    TRADES_MARK,
    Connected,
    Event,
    Lost,
    Noticed,
    Request,
    Waiting,
    decode_event,
)
from app.market_data.live.exchange.outage import Outage
from app.market_data.live.exchange.trade_map import subscription
from app.market_data.live.intake import Intake, Taken
from app.market_data.live.places import url_of
from app.market_data.live.records import TRADE, Records
from app.market_data.live.tick_log import RecordingFull, TickLog
from app.runtime.log import get_logger

log = get_logger()

NOTICES_S: Final = 10.0
WARN_EVERY_S: Final = 1.0
PACKETS_MAX: Final = 16
"""Taken at once, before others get their turn."""
RESPAWN_S: Final = 1.0
COUNTED_MAX: Final = 1 << 48
_MODULE: Final = "app.market_data.live.exchange.receiver"
COUNTERS: Final = (
    "live_connects",
    "live_gaps",
    "live_missing",
    "live_repeated",
    "live_late",
    "live_refused",
)


class LiveSession:
    """Starts the receiver and takes what it sends; :meth:`fileno` is readable when there is some.

    ``counts``: since the start of this process, the names are :data:`COUNTERS`.
    """

    def __init__(self, settings: Settings, log_file: TickLog, intake: Intake) -> None:
        self._settings, self._log, self._intake = settings, log_file, intake
        self.counts = dict.fromkeys(COUNTERS, 0)
        self.connected, self.writable = False, True
        self._unwritten: Records | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._broken = False
        self._outage: Outage | None = None
        self._noticed = dict.fromkeys(("refused", "others", "repeated", "late"), 0)
        self._texts = {"refused": "", "others": ""}
        self._next_notices_s = self._respawn_s = 0.0
        self._warned: dict[str, tuple[float, int]] = {}

    @property
    def flows(self) -> bool:
        """Whether prices are current: there is a connection, and ticks can be recorded."""
        return self.connected and self.writable

    def start(self) -> int:
        """Start the receiver; returns the descriptor to wait for."""
        settings = self._settings
        url = url_of(settings.data_path)
        symbols = self._log.symbols
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
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
        root = str(Path(__file__).parents[3])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(theirs.fileno())],
                env=os.environ
                | {"PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                # Its own words come as events; a traceback would be no line of this log.
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(msgspec.json.encode(request))
        ours.setblocking(False)
        self._socket, self._broken = ours, False
        return ours.fileno()

    def take(self) -> Records | None:
        """The ticks that have arrived, recorded; None if there are none.

        Raises:
            ReceiverDied: call :meth:`restart`.
        """
        if self._unwritten is not None:
            return self._record(self._unwritten)
        if self._broken:
            raise ReceiverDied
        trades: list[bytes] = []
        died = False
        for _ in range(PACKETS_MAX):
            try:
                packet = self._socket.recv(PACKET_BYTES_MAX) if self._socket else b""
            except BlockingIOError:
                break
            except OSError:
                packet = b""
            if not packet or not self._read(packet, trades):
                died = True
                break
        ticks = self._record(self._number(trades)) if trades else None
        if died and ticks is None:
            raise ReceiverDied
        return ticks

    def _read(self, packet: bytes, trades: list[bytes]) -> bool:
        """Whether a receiver may say this; one that says anything else is ended."""
        if packet.startswith(TRADES_MARK) and len(packet) % TRADE.itemsize == 1:
            trades.append(packet[1:])
            return True
        if packet.startswith(EVENT_MARK):
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
                self._take_event(decode_event(packet[1:]))
                return True
        self._broken = True
        if self._process is not None:
            self._process.kill()
        return False

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

    def _warn(self, event: str, **what: object) -> None:
        """A line, unless the last one is less than a second old: then a number in the next."""
        now_s = time.monotonic()
        next_s, unsaid = self._warned.get(event, (0.0, 0))
        if now_s < next_s:
            self._warned[event] = (next_s, unsaid + 1)
            return
        self._warned[event] = (now_s + WARN_EVERY_S, 0)
        log.warning(event, **what, **({"more": unsaid} if unsaid else {}))

    def _take_event(self, event: Event) -> None:
        if isinstance(event, Connected):
            self.connected = True
            self.counts["live_connects"] += 1
            after = self._outage.over(time.monotonic()) if self._outage else {}
            self._outage = None
            log.info("live_connected", url=shown_address(event.url), **after)
        elif isinstance(event, Lost):
            self._lost(event)
        elif isinstance(event, Noticed):
            self.counts["live_refused"] += event.refused
            self._notice("refused", event.refused, event.refused_text)
            self._notice("others", event.others, event.other_text)
        else:
            assert isinstance(event, Waiting)

    def _lost(self, event: Lost) -> None:
        now_s = time.monotonic()
        self.connected = False
        self._outage = self._outage or Outage(now_s)
        line = self._outage.failed(event.reason, event.pause_s, now_s)
        if line:
            log.warning("live_lost", **line)

    def _notice(self, kind: str, count: int, text: str) -> None:
        self._noticed[kind] += count
        if text and not self._texts[kind]:
            self._texts[kind] = text

    def maintain(self, now_s: float, *, end: bool = False) -> None:
        """Log what was noticed, at most every :data:`NOTICES_S`: strangers decide how often.

        A connection that is still lost is said more often at first.
        """
        if self._outage and not end and (line := self._outage.still(now_s)):
            log.warning("live_lost", **line)
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

    # ---- the receiver's life

    def restart(self) -> None:
        """The receiver has died; the next :meth:`respawn` starts another."""
        code = self._close_receiver()
        self.connected = False
        log.warning("live_receiver_died", exit_code=code, action="starting another")
        self._respawn_s = time.monotonic() + RESPAWN_S

    def respawn(self, now_s: float) -> int | None:
        """Start the receiver again if it is due; returns the new descriptor."""
        if self._process is not None or now_s < self._respawn_s:
            return None
        return self.start()

    def _close_receiver(self) -> int | None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is None:
            return None
        process, self._process = self._process, None
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        return process.wait()

    def close(self) -> None:
        """End the receiver."""
        self.maintain(time.monotonic(), end=True)
        self._close_receiver()


class ReceiverDied(Exception):
    """There is no receiver any more."""
