"""Sentiment for the chart: a plain client of the sentiment port, read without ever waiting.

It connects after the stream has begun, so that it is none of the clients that the gateway waits
for, and if it does not read, the gateway drops it like any plain client.
"""

import bisect
import contextlib
import socket
import time
from collections import deque
from typing import Final

import numpy as np

from app.config.settings import Settings
from app.dashboard.sources.connecting import Connecting
from app.kernel import _kernel
from app.model.tick import TICK_DTYPE
from app.model.wire.feed_protocol import PROOF
from app.model.wire.frames import DELIMITER
from app.runtime.control.client import stack_proof

NONE: Final = -1
"""No sentiment is known."""
RETRY_S: Final = 2.0
RETRY_S_MAX: Final = 60.0
"""Between two connections that brought nothing, as after the end of the run."""
CONNECT_TIMEOUT_S: Final = 0.2
RECEIVE_BYTES: Final = 256 * 1024
RECEIVES_MAX: Final = 64
"""Per read.  What is left is read later, or the gateway drops this client."""
THIN_ABOVE: Final = 1000
VALUES_MAX: Final = 4000
"""Of one symbol."""


class Sentiments:
    """The sentiment of each symbol over time, as far back as charts go."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._socket: socket.socket | None = None
        self._connecting: Connecting | None = None
        self._next_try_s, self._pause_s = 0.0, RETRY_S
        self._parser: _kernel.FieldParser | None = None
        self._times: list[deque[int]] = []
        self._values: list[deque[int]] = []
        self._buffer = bytearray(RECEIVE_BYTES + 65536 + _kernel.PARSE_SLACK_BYTES)
        self._fill = 0
        self._store = np.zeros(16384, TICK_DTYPE)
        self.problem = "not connected yet"

    def use(self, symbols: list[str]) -> None:
        """Begin anew with these symbols."""
        self.close()
        self._parser = _kernel.FieldParser(symbols)
        self._times = [deque(maxlen=VALUES_MAX) for _ in symbols]
        self._values = [deque(maxlen=VALUES_MAX) for _ in symbols]
        self._next_try_s, self._pause_s = 0.0, RETRY_S

    def at(self, index: int, event_ns: int) -> int:
        """The symbol's sentiment at a time, :data:`NONE` if it is not known."""
        times, values = self._times[index], self._values[index]
        if not times:
            return NONE
        if times[-1] <= event_ns:
            return values[-1]
        found = bisect.bisect_right(times, event_ns)
        return values[found - 1] if found else NONE

    def read(self, *, of_stack: bool) -> None:
        """Take what has arrived; connect, in the background, if there is no connection.

        ``of_stack``: the gateway shares this stack's memory, so it is shown the stack's proof.
        """
        if self._parser is None:
            return
        if self._socket is None and not self._connect(of_stack):
            return
        assert self._socket is not None
        try:
            for _ in range(RECEIVES_MAX):
                view = memoryview(self._buffer)[self._fill : self._fill + RECEIVE_BYTES]
                count = self._socket.recv_into(view)
                if not count:
                    self._pause_s = min(2 * self._pause_s, RETRY_S_MAX)
                    raise ConnectionAbortedError("the gateway closed the connection")
                self._pause_s = RETRY_S
                self._fill += count
                self._take(self._parser)
        except BlockingIOError:
            pass
        except (OSError, ValueError) as error:
            self.problem = str(error)
            self.close()

    def _connect(self, of_stack: bool) -> bool:
        """Begin to connect, or see whether it has been done."""
        if self._connecting is None:
            now_s = time.monotonic()
            if now_s < self._next_try_s:
                return False
            self._next_try_s = now_s + self._pause_s
            proof = stack_proof(self._settings) if of_stack else ""
            hello = PROOF + proof.encode() + DELIMITER if proof else b""
            address = (self._settings.gateway_host, self._settings.sentiment_port)
            self._connecting = Connecting(address, hello, CONNECT_TIMEOUT_S)
        if not self._connecting.done:
            return False
        self._socket, self.problem = self._connecting.take(), self._connecting.error
        self._connecting = None
        return self._socket is not None

    def _take(self, parser: _kernel.FieldParser) -> None:
        """Parse the sentiments in the buffer."""
        position = 0
        while True:
            count, position, stop, _, _ = _kernel.parse_sentiments(
                parser, self._buffer, position, self._fill, self._store, 0
            )
            events = self._store[:count]
            if count > THIN_ABOVE:  # each symbol's last value is enough
                _, last = np.unique(events["symbol"][::-1], return_index=True)
                events = events[np.sort(count - 1 - last)]
            for event in events:
                index = int(event["symbol"])
                self._times[index].append(int(event["event_ns"]))
                self._values[index].append(int(event["price"]))
            if stop == _kernel.NEED_MORE:
                break
            if stop != _kernel.FULL:
                frame = bytes(self._buffer[position : min(position + 80, self._fill)])
                raise ValueError(f"the gateway sent {frame!r}")
        rest = self._fill - position
        self._buffer[:rest] = self._buffer[position : self._fill]
        self._fill = rest

    def close(self) -> None:
        """Close the connection; the next read opens a new one."""
        if self._connecting is not None:
            self._connecting.forget()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
        self._socket = self._connecting = None
        self._fill = 0
