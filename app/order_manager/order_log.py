"""The log line of each order: written after the answers, and never waited for.

A container's log is a pipe.  When its reader is slow, an ordinary write would stop the trading
path; and each write wakes the engine's log driver, which at 2,000 orders/s took so much of two
cores that an order waited half as long again (550 against 360 us, tick to durable ACK).  So lines
wait up to DELAY_NS for one write together, in a bounded backlog; what does not fit is counted and
said.
"""

import os
import select
import stat
from typing import Final

import msgspec

from app.model.timestamps import utc_text

BACKLOG_BYTES_MAX: Final = 1024 * 1024
WRITE_BYTES: Final = 16 * 1024
"""So much is written at once, whatever its age."""
DELAY_NS: Final = 20_000_000
"""A process that is killed takes so much of its log along; the store has it all.  Its other events
are written at once, so they may stand before lines of earlier times."""


class OrderLog:
    """Lines in the form of :mod:`app.runtime.log`, at level INFO, on a file descriptor."""

    def __init__(self, form: str = "text", enabled: bool = True, descriptor: int = 2) -> None:
        self.dropped = 0
        self._enabled = enabled
        self._json = form == "json"
        self._descriptor = descriptor
        self._backlog = b""
        self._oldest_ns = 0
        # A file takes everything; a pipe that polls writable takes this much without blocking.
        self._is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._chunk_bytes = BACKLOG_BYTES_MAX if self._is_file else select.PIPE_BUF
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def write(self, lines: list[str], now_ns: int) -> None:
        """Append a turn's lines, if any; write, without waiting, when they are many or one is old.

        Who has nothing else to do calls :meth:`drain` for those that are left.
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
        """Write as much of the backlog as the descriptor takes at once."""
        while self._backlog:
            if not self._is_file:
                events = self._poll.poll(0)
                if not events or not events[0][1] & select.POLLOUT:
                    return
            chunk = self._backlog[: self._chunk_bytes]
            if len(chunk) < len(self._backlog):
                # Others of this process write to the same log: cut between lines.
                chunk = chunk[: chunk.rfind(b"\n") + 1] or chunk
            try:
                written = os.write(self._descriptor, chunk)
            except OSError:
                # Nobody reads any more; orders matter more than their log.
                self._backlog = b""
                return
            self._backlog = self._backlog[written:]

    @property
    def pending(self) -> bool:
        """Whether lines wait for the descriptor."""
        return bool(self._backlog)


def _quoted(text: str, as_json: bool) -> str:
    return f'"{text}"}}' if as_json else text
