"""Follows a stack: one computation for each of its strategies, a new one for each new run."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from app.backtest.proof.client_proof import ClientProof, OtherSettings
from app.backtest.proof.last_figures import LastFigures
from app.backtest.proof.live_run import LiveRun, Position
from app.backtest.proof.matching import Difference
from app.backtest.proof.order_pages import OrderPort, OtherRun, Unavailable
from app.config.settings import Settings
from app.market_data.feed import Feed
from app.model.orders import tick_of_order_id
from app.strategy.attach import SAME_SETTINGS, mark_of


class CannotTell(Exception):
    """Nothing to compare with; the message says why."""


class State(NamedTuple):
    """What is known so far, summed over the strategies; ``hash`` is that of the first one.

    ``ticks``: computed so far.  ``run``: None before the order manager has answered.  ``note``:
    what it waits for; empty if for nothing.
    """

    run: str | None = None
    ticks: int = 0
    expected: int = 0
    seen: int = 0
    equal: int = 0
    hash: str = "-"
    difference: Difference | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """As it is printed."""
        found = self.difference
        difference = found and {**found._asdict(), "tick": tick_of_order_id(found.id)}
        return {**self._asdict(), "difference": difference}

    def __str__(self) -> str:
        note = f" ({self.note})" if self.note else ""
        counts = f"{self.equal:,} of {max(self.expected, self.seen):,} orders equal"
        if self.difference is not None:
            return f"DIFFERENT: {self.difference}; {counts}{note}"
        return f"same trades: {counts}, hash {self.hash}, tick {self.ticks:,}{note}"


WHY_NOT: Final = {
    "trading_mode": ("live", "a run on the clock cannot be repeated"),
    "ring_policy": ("latest", "a strategy that may lose ticks cannot be repeated"),
    "sentiment_join": ("arrival", "what counts is when a sentiment arrives"),
}
"""Setting -> the value with which nothing can be proved, and the reason."""


class Follower:
    """Keeps computations level with the stack; call :meth:`step` again and again.

    Raises:
        CannotTell: with these settings nothing can be proved.
        SettingsError: STRATEGY_PARAMS is wrong.
        StrategyError: the strategy cannot be loaded.
    """

    def __init__(self, settings: Settings, feed: Feed) -> None:
        for name, (value, reason) in WHY_NOT.items():
            if getattr(settings, name) == value:
                raise CannotTell(f"{name.upper()}={value}: {reason}")
        self._settings, self._feed = settings, feed
        self._mark = mark_of(settings, feed.feed_id)
        self._port, self._live = OrderPort(settings), LiveRun(settings)
        self._figures = LastFigures(settings)
        self._clients: dict[str, ClientProof] = {}
        self._position: Position | None = None
        """At the latest answer of the run."""
        self._before: Position | None = None
        """At the end of the run before, until the ring shows this one."""
        self._checked_ring = 0
        self._note = ""
        self.answers = self.sees_ring = False
        """Whether the order manager answered, and there was a ring, in the latest step."""
        self._start_over()

    def _start_over(self) -> None:
        self._before, self._position = self._position, None
        self._clients.clear()
        self._add(self._settings.strategy_client)

    def _add(self, name: str) -> None:
        self._clients[name] = ClientProof(self._settings, self._feed, self._port, name, self._mark)

    def step(self) -> None:
        """Look at the stack, and go a bit further.

        Raises:
            CannotTell: the stack has other data or settings.
            StrategyError: the strategy failed.
        """
        self._figures.look()
        position = self._live.look()
        self.sees_ring = position is not None
        self._check_feed(position)
        trusted = self._of_this_run(position)
        for name in sorted(trusted.consumed if trusted else ()):
            if name not in self._clients:
                self._add(name)
        try:
            for proof in self._clients.values():
                proof.step(trusted)
        except Unavailable as error:
            self.answers, self._note = False, f"no answer from the order manager: {error}"
            return
        except OtherRun:
            self._start_over()
            return
        except OtherSettings as error:
            raise CannotTell(str(error)) from None
        self._position = trusted
        self.answers = True
        problems = [proof.pages.problem for proof in self._clients.values()]
        self._note = next(filter(None, problems), "" if position else "no shared memory")

    def finish(self, may_go_on: Callable[[], bool]) -> bool:
        """The stack is gone: compare the rest with the digest that its strategy has left.

        ``may_go_on``: asked while it computes.  False if there is no such digest, or it may not.

        Raises:
            StrategyError: the strategy failed.
        """
        figures = self._figures.at_end()
        if figures is None or len(self._clients) != 1:
            return False
        (proof,) = self._clients.values()
        seen = proof.matcher.seen
        if not proof.finish(*figures, may_go_on):
            return False
        rest = figures.orders - seen
        self._note = f"the last {rest:,} by their trades hash" if rest > 0 else ""
        return True

    def _check_feed(self, position: Position | None) -> None:
        if position is None or position.ring == self._checked_ring:
            return
        feed_id = self._live.feed_id()
        if feed_id and feed_id != self._feed.feed_id:
            raise CannotTell(
                f"the stack replays the feed {feed_id}, data, seed and settings here give "
                f"{self._feed.feed_id}: {SAME_SETTINGS}"
            )
        self._checked_ring = position.ring if feed_id else 0

    def _of_this_run(self, position: Position | None) -> Position | None:
        """The position, unless it may still be that of the run before."""
        before = self._before
        if position is None or before is None:
            return position
        if position.ring == before.ring and all(
            position.consumed.get(name, cursor) >= cursor
            for name, cursor in before.consumed.items()
        ):
            return None
        self._before = None
        return position

    @property
    def behind(self) -> bool:
        """Whether another step at once makes sense."""
        return self.answers and any(proof.behind for proof in self._clients.values())

    @property
    def finished(self) -> bool:
        """Whether the run is over, and all of it is compared."""
        return self.answers and all(proof.finished for proof in self._clients.values())

    def ends_within(self, seconds: float, ticks_per_s: float) -> bool:
        """Whether the run may come to its end so soon."""
        if self._settings.replay != "once":
            return False
        published = self._position.published if self._position else 0
        return self._feed.total - published <= seconds * ticks_per_s

    @property
    def published(self) -> int:
        """Ticks of the live run so far."""
        return self._position.published if self._position else 0

    @property
    def state(self) -> State:
        """What is known so far."""
        proofs = [self._clients[name] for name in sorted(self._clients)]
        found = [proof.matcher for proof in proofs]
        return State(
            self._port.run,
            min(proof.computation.ticks for proof in proofs),
            sum(each.expected for each in found),
            sum(each.seen for each in found),
            sum(each.equal for each in found),
            self._clients[self._settings.strategy_client].matcher.hash,
            next((each.difference for each in found if each.difference), None),
            self._note,
        )

    def close(self) -> None:
        """Leave the stack alone."""
        self._port.close()
        self._live.close()
        self._figures.close()
