"""The live feed in the gateway's loop: takes ticks as they arrive, keeps Parquet up to date."""

import contextlib
import select
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

from app.market_data.live.exchange.supervised import ReceiverDied, SupervisedReceiver
from app.market_data.live.live_feed import LiveFeed
from app.runtime.log import get_logger

log = get_logger()

PARQUET_EVERY_S: Final = 60.0
PARQUET_END_S: Final = 3.0
"""Time for the last part at the end: less than a container has for its stop."""
_PARQUET: Final = "app.market_data.live.parquet.parts"


class LiveInput:
    """One live session on the gateway's epoll.

    ``on_ticks`` is called when the feed has grown, ``on_end`` when it does not grow any more.
    """

    def __init__(
        self,
        feed: LiveFeed,
        session: SupervisedReceiver,
        epoll: select.epoll,
        on_ticks: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self._feed, self.session = feed, session
        self._epoll, self._on_ticks, self._on_end = epoll, on_ticks, on_end
        self.descriptor = -1
        self._waits = False
        self._parquet: subprocess.Popen[bytes] | None = None
        self._parquet_count = 0
        self._next_parquet_s = time.monotonic() + PARQUET_EVERY_S
        self._watch(session.start())

    def _watch(self, descriptor: int) -> None:
        self.descriptor, self._waits = descriptor, True
        self._epoll.register(descriptor, select.EPOLLIN)

    def take(self) -> None:
        """Record what has arrived, then release it."""
        try:
            ticks = self.session.take()
        except ReceiverDied:
            if self._waits:
                self._epoll.unregister(self.descriptor)
            self.descriptor, self._waits = -1, False
            self.session.restart()
            return
        if self._waits != self.session.writable:
            # What is not read waits in the socket, in the receiver, and at the exchange.  That the
            # receiver is gone, epoll would say without end.
            if self.session.writable:
                self._watch(self.descriptor)
            else:
                self._epoll.unregister(self.descriptor)
                self._waits = False
        if self._feed.take(ticks):
            self._on_ticks()
        if self.session.ended:
            self._end()

    def _end(self) -> None:
        """Nothing more comes."""
        if self.descriptor >= 0 and self._waits:
            self._epoll.unregister(self.descriptor)
        self.descriptor, self._waits = -1, False
        self.session.close()
        self._on_end()

    def maintain(self, now_s: float) -> None:
        """Twice a second: what has to be tried again, said, or written."""
        if self.session.waiting and self.descriptor >= 0:
            self.take()
        self.session.maintain(now_s)
        if (descriptor := self.session.respawn(now_s)) is not None:
            self._watch(descriptor)
        if self._feed.as_parquet and now_s >= self._next_parquet_s:
            self._next_parquet_s = now_s + PARQUET_EVERY_S
            self._write_parquet()

    def _write_parquet(self) -> None:
        if self._parquet is not None and self._parquet.poll() is None:
            return
        self._check_parquet()
        if self._feed.available > self._parquet_count:
            self._parquet_count = self._feed.available
            self._parquet = subprocess.Popen(
                [sys.executable, "-m", _PARQUET, str(self._feed.log.path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )

    def _check_parquet(self) -> None:
        """Say why the last one has failed; the next one does its work, too."""
        if self._parquet is None:
            return
        process, self._parquet = self._parquet, None
        reason = b""
        if process.stderr is not None:
            with process.stderr:
                reason = process.stderr.read(4096)
        if process.wait():
            self._parquet_count = 0
            lines = reason.decode("utf-8", "replace").strip().splitlines()
            log.warning("live_parquet_failed", reason=lines[-1] if lines else "no reason")

    def close(self) -> None:
        """End the session, and write the last part."""
        self.session.close()
        if not self._feed.as_parquet:
            return
        until_s = time.monotonic() + PARQUET_END_S
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._parquet is not None:
                self._parquet.wait(PARQUET_END_S)
            self._write_parquet()
            if self._parquet is not None:
                self._parquet.wait(max(until_s - time.monotonic(), 0.1))
                self._check_parquet()
        if self._parquet is not None:
            mend = f"python -m app data convert {self._feed.log.path} ticks.parquet"
            log.warning("live_parquet_failed", reason="not done in time", mend=mend)
