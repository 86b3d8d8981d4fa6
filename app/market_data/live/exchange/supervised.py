"""A receiver process and the socket to it: started, listened to, started again when it dies.

The receiver reads what strangers send; it tells events, and passes on packets of its own kind.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from app.config.addresses import shown_address
from app.market_data.live.exchange.messages import (
    EVENT_MARK,
    Connected,
    Event,
    Lost,
    Noticed,
    Waiting,
    decode_event,
)
from app.market_data.live.exchange.outage import Outage
from app.runtime.log import get_logger

log = get_logger()

WARN_EVERY_S: Final = 1.0
PACKETS_MAX: Final = 16
"""Taken at once, before others get their turn."""
RESPAWN_S: Final = 1.0
COUNTERS: Final = (
    "live_connects",
    "live_gaps",
    "live_missing",
    "live_repeated",
    "live_late",
    "live_refused",
)


class ReceiverDied(Exception):
    """There is no receiver any more."""


class SupervisedReceiver:
    """What a session on a receiver process is; a subclass says what it is asked and what it sends.

    ``counts``: since the start of this process, the names are :data:`COUNTERS`.
    """

    module: str
    """Of the receiver: it gets the socket's descriptor as argument, the request on its input."""
    packet_bytes_max: int

    def __init__(self) -> None:
        self.counts = dict.fromkeys(COUNTERS, 0)
        self.connected, self.writable = False, True
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._broken = False
        self._outage: Outage | None = None
        self._respawn_s = 0.0
        self._warned: dict[str, tuple[float, int]] = {}

    @property
    def flows(self) -> bool:
        """Whether prices are current: there is a connection, and ticks can be recorded."""
        return self.connected and self.writable

    @property
    def descriptor(self) -> int | None:
        """What becomes readable when the receiver has sent something; None: there is none."""
        return None if self._socket is None else self._socket.fileno()

    @property
    def waiting(self) -> bool:
        """Whether something was received that could not be used yet: try :meth:`take` again."""
        return not self.writable

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to receive."""
        return False

    def request(self) -> bytes:
        """What the receiver is asked for; its standard input."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """What the receiver's environment has besides this process's."""
        return {}

    def accept(self, packet: bytes, packets: list[bytes]) -> bool:
        """Whether a receiver may send this packet, which is no event; then it is noted."""
        raise NotImplementedError

    def take(self) -> Any:
        """What has arrived, recorded; None if there is nothing.

        Raises:
            ReceiverDied: call :meth:`restart`.
        """
        raise NotImplementedError

    def start(self) -> int:
        """Start the receiver; returns the descriptor to wait for."""
        if self._socket is not None:
            return self._socket.fileno()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        root = str(Path(__file__).parents[4])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        own = {"PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module, str(theirs.fileno())],
                env=os.environ | self.environment() | own,
                stdin=subprocess.PIPE,
                # Its own words come as events; a traceback would be no line of this log.
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(self.request())
        ours.setblocking(False)
        self._socket, self._broken = ours, False
        return ours.fileno()

    def _packets(self) -> tuple[list[bytes], bool]:
        """What has arrived besides events, and whether the receiver is gone."""
        packets: list[bytes] = []
        for _ in range(PACKETS_MAX):
            try:
                packet = self._socket.recv(self.packet_bytes_max) if self._socket else b""
            except BlockingIOError:
                break
            except OSError:
                packet = b""
            if not packet or not self._read(packet, packets):
                return packets, True
        return packets, False

    def _read(self, packet: bytes, packets: list[bytes]) -> bool:
        """Whether a receiver may say this; one that says anything else is ended."""
        if packet.startswith(EVENT_MARK):
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
                self._take_event(decode_event(packet[1:]))
                return True
        elif self.accept(packet, packets):
            return True
        self._end_receiver()
        return False

    def _end_receiver(self) -> None:
        self._broken = True
        if self._process is not None:
            self._process.kill()

    # ---- what is said about it

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
            self.noticed(event)
        else:
            assert isinstance(event, Waiting)

    def noticed(self, event: Noticed) -> None:
        """The receiver has counted what it did not pass on."""

    def _lost(self, event: Lost) -> None:
        now_s = time.monotonic()
        self.connected = False
        self._outage = self._outage or Outage(now_s)
        line = self._outage.failed(event.reason, event.pause_s, now_s)
        if line:
            log.warning("live_lost", **line)

    def maintain(self, now_s: float, *, end: bool = False) -> None:
        """Say now and then that a connection is still lost, more often at first."""
        if self._outage and not end and (line := self._outage.still(now_s)):
            log.warning("live_lost", **line)

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
