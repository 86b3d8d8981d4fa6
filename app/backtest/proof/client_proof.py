"""One strategy's orders against a computation of its own, kept level with the live run."""

import time
from collections.abc import Callable
from typing import Final

from app.backtest.proof.computation import Computation
from app.backtest.proof.live_run import Position
from app.backtest.proof.matching import Matcher
from app.backtest.proof.order_pages import OrderPages, OrderPort
from app.config.settings import Settings
from app.market_data.feed import Feed
from app.strategy.attach import SAME_SETTINGS

STEP_TICKS: Final = 16_384
"""Computed at once: a few milliseconds."""
WAITING_MAX: Final = 1_000
"""Orders of the live run that are held until the computation has come to them."""


class OtherSettings(Exception):
    """The run is not one of these settings; the message says which strategy trades."""


class ClientProof:
    """Of the strategy called ``name``; ``mark`` is the fingerprint in its client name."""

    def __init__(
        self, settings: Settings, feed: Feed, port: OrderPort, name: str, mark: str
    ) -> None:
        self._port, self._name = port, name
        self.client = f"{name}@{mark}"
        self.matcher = Matcher(self.client)
        self.pages = OrderPages(port, self.client)
        self.computation = Computation(settings, feed)
        self._grace_s, self._total = settings.reader_grace_s, feed.total
        self._passed = 0
        self._cursor, self._moved_s = -1, 0.0
        self._last_tick = -1
        self.behind = False
        """Whether there is more to compute, or to ask for, at once."""
        self.finished = False
        """Whether the run is over and all of it is compared."""

    def step(self, position: Position | None) -> None:
        """Ask for orders, go on computing, compare.

        ``position``: None if it is not known, or not of this run.

        Raises:
            Unavailable, OtherRun: as :meth:`OrderPages.read`.
            OtherSettings: the run has orders of this strategy, but with other settings.
            StrategyError: the strategy failed.
        """
        if position is not None:
            self._follow(position)
        matcher, computation = self.matcher, self.computation
        if matcher.waiting < WAITING_MAX:
            lines = self.pages.read()
            matcher.see(lines)
            if lines:
                self._last_tick = max(self._last_tick, *(line.tick for line in lines))
        goal = max(self._passed, self._last_tick + 1)
        if computation.ticks < goal:
            matcher.expect(computation.go_to(min(goal, computation.ticks + STEP_TICKS)))
        all_asked = self.pages.caught_up and not self.pages.problem
        passed = self._passed if all_asked else 0
        if passed and not matcher.seen and matcher.expected:
            self._check_settings()
        matcher.match(computation.ticks, passed)
        self.behind = computation.ticks < goal or not self.pages.caught_up
        end = position.end if position is not None else None
        self.finished = all_asked and not self.behind and end is not None and passed >= end

    def finish(self, orders: int, trades_hash: int, may_go_on: Callable[[], bool]) -> bool:
        """The run is over, and its last orders cannot be asked for: compare their digest.

        It computes what it has not computed yet, while ``may_go_on``; False if it may not.

        Raises:
            StrategyError: the strategy failed.
        """
        matcher, computation = self.matcher, self.computation
        while computation.ticks < self._total:
            if not may_go_on():
                return False
            goal = min(self._total, computation.ticks + STEP_TICKS)
            matcher.expect(computation.go_to(goal))
        matcher.match(computation.ticks, 0)
        matcher.conclude(orders, trades_hash)
        return True

    def _follow(self, position: Position) -> None:
        """Note the ticks whose orders the order manager has."""
        now_s = time.monotonic()
        cursor = position.consumed.get(self._name)
        if cursor is not None:
            self._passed = max(self._passed, cursor)
            if cursor != self._cursor:
                self._cursor, self._moved_s = cursor, now_s
        elif position.is_over and position.end is not None:
            # Whoever leaves has consumed all.  A dead one is removed, too, but not so soon.
            left = self._cursor >= 0 and now_s - self._moved_s < self._grace_s
            if position.done or left:
                self._passed = max(self._passed, position.end)

    def _check_settings(self) -> None:
        """Before an order is called missing: whether the stack has other settings than these."""
        others = sorted(
            name for name in self._port.clients() if name.partition("@")[0] == self._name
        )
        if others and self.client not in others:
            raise OtherSettings(
                f"the run has orders of {', '.join(others)}, but data, seed and settings here give "
                f"{self.client}: {SAME_SETTINGS}"
            )
