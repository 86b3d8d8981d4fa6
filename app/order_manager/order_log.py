"""The log line of each order: written after the answers, without ever blocking.

A container's log is a pipe.  With a slow reader an ordinary write would block the trading path.
And each write wakes the container engine's log driver: at 2,000 orders/s on two cores, that
increased the latency from tick to durable ACK from 360 to 550 us.  So lines wait up to DELAY_NS in
a bounded backlog and are written together; lines that do not fit are dropped, and their number is
logged.
"""

import os
import select
import stat
from typing import Final

import msgspec

from app.model.timestamps import utc_text

BACKLOG_BYTES_MAX: Final = 1024 * 1024
WRITE_BYTES: Final = 16 * 1024
"""A backlog of this size is written at once, whatever its age."""
DELAY_NS: Final = 20_000_000
"""A killed process loses up to this much of its log; the store has every order.  Other events of
the process are written immediately, so they may precede lines with earlier times."""


class OrderLog:
    """Lines in the form of :mod:`app.runtime.log`, at level INFO, on a file descriptor."""

    def __init__(self, form: str = "text", enabled: bool = True, descriptor: int = 2) -> None:
        self.dropped = 0
        self._enabled = enabled
        self._json = form == "json"
        self._descriptor = descriptor
        self._backlog = b""
        self._oldest_ns = 0
        # A file never blocks; a pipe that polls writable takes PIPE_BUF bytes without blocking.
        self._is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._chunk_bytes = BACKLOG_BYTES_MAX if self._is_file else select.PIPE_BUF
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def write(self, lines: list[str], now_ns: int) -> None:
        """Append a batch's lines, if any; write without blocking when they are many or old.

        The caller calls :meth:`drain` when idle, for the lines that are left.
        """
        if not self._enabled:
            return
        if lines:
            self._append(lines, now_ns)
        if len(self._backlog) >= WRITE_BYTES or now_ns - self._oldest_ns >= DELAY_NS:
            self.drain()

    def _append(self, lines: list[str], now_ns: int) -> None:
        stamp = utc_text(now_ns, 6)
        if self._json:
            head = f'{{"ts":"{stamp}","level":"info","service":"order_manager","event":'
            text = "".join(f"{head}{msgspec.json.encode(line).decode()}}}\n" for line in lines)
        else:
            head = f"{stamp} INFO order_manager "
            text = head + f"\n{head}".join(lines) + "\n"
        if len(self._backlog) + len(text) > BACKLOG_BYTES_MAX:
            self.dropped += len(lines)
        else:
            if self.dropped:
                text = f"{head}{_quoted(f'log_lines_dropped={self.dropped}', self._json)}\n{text}"
                self.dropped = 0
            if not self._backlog:
                self._oldest_ns = now_ns
            self._backlog += text.encode()

    def drain(self) -> None:
        """Write as much of the backlog as the descriptor takes without blocking."""
        while self._backlog:
            if not self._is_file:
                events = self._poll.poll(0)
                if not events or not events[0][1] & select.POLLOUT:
                    return
            chunk = self._backlog[: self._chunk_bytes]
            if len(chunk) < len(self._backlog):
                # Other parts of this process write to the same log: split between lines.
                chunk = chunk[: chunk.rfind(b"\n") + 1] or chunk
            try:
                written = os.write(self._descriptor, chunk)
            except OSError:
                # The reader is gone: drop the lines, keep serving orders.
                self._backlog = b""
                return
            self._backlog = self._backlog[written:]

    @property
    def pending(self) -> bool:
        """Whether lines wait for the descriptor."""
        return bool(self._backlog)


def _quoted(text: str, as_json: bool) -> str:
    return f'"{text}"}}' if as_json else text
