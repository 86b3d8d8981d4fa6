"""Watches the containers of a ``REPLAY=once`` run until it is clear how the run ends.

It knows them only through the files that they leave (:mod:`app.runtime.verdict.life`).  So it needs
no access to the engine, and sees the death of any of them, also of the owner of /dev/shm.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from app.config.loading import EXIT_SETTINGS
from app.runtime.lifecycle import EXIT_FAULT, EXIT_INCOMPLETE, EXIT_OK
from app.runtime.verdict.life import Life

SERVICES: Final = ("gateway", "orderbook", "order_manager", "strategy")
EARLIER_GRACE_S: Final = 5.0
"""An end that was recorded before the watch began may be that of a container which is replaced at
this moment: it counts only if nothing follows within this time."""
RESTARTS_MAX: Final = 5
RESTARTS_WINDOW_S: Final = 60.0

Lives = Iterable[tuple[Life, bool]]


class End(NamedTuple):
    """How the run ends.  ``reported``: a strategy has written the report of it."""

    exit_code: int
    reason: str
    reported: bool = False


class Watch:
    """Call :meth:`check` a few times a second with all records, until it returns an end.

    ``epoch``: that of the owner of /dev/shm at the start of the watch.  ``owner_died``: whether it
    has died since.  Times are seconds of CLOCK_MONOTONIC, ``wall_ns`` is UTC since 1970.
    """

    def __init__(
        self,
        epoch: str,
        strategies: int,
        patience_s: float,
        *,
        now_s: float,
        wall_ns: int | None = None,
        owner_died: Callable[[], bool] = lambda: False,
    ) -> None:
        self._epoch, self._strategies, self._patience_s = epoch, strategies, patience_s
        self._started_s = now_s
        self._started_ns = time.time_ns() if wall_ns is None else wall_ns
        self._owner_died = owner_died
        self._known: dict[tuple[str, str], tuple[Life, bool]] = {}
        self._dead_since_s: dict[tuple[str, str], float] = {}
        self._restarts_s: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._seen_running: set[tuple[str, str, int]] = set()

    def check(self, lives: Lives, now_s: float) -> End | None:
        """The end of the run, or None while it goes on."""
        self._take(lives, now_s)
        current = {service: self._current(service) for service in SERVICES}
        everyone = [found for group in current.values() for found in group]
        return (
            self._failed(everyone, now_s)
            or self._completed(current["strategy"], now_s)
            or self._keeps_dying(everyone, now_s)
            or self._gone(everyone, now_s)
            or self._missing(current, now_s)
        )

    def _take(self, lives: Lives, now_s: float) -> None:
        deployment = self._epoch.partition("@")[0]
        for life, alive in lives:
            if life.deployment != deployment:
                continue  # of a stack that was taken down
            if life.epoch != self._epoch and life.started_ns < self._started_ns:
                continue  # of the time before the last stop
            key = (life.service, life.host)
            before = self._known.get(key)
            if before and life.starts > before[0].starts:
                self._restarts_s[key].append(now_s)
            self._known[key] = (life, alive)
            if alive and not life.ended:
                self._seen_running.add((*key, life.starts))
            if alive:
                self._dead_since_s.pop(key, None)
            else:
                self._dead_since_s.setdefault(key, now_s)

    def _current(self, service: str) -> list[tuple[Life, bool]]:
        """The latest containers of a service: others were replaced by them."""
        found = [(life, alive) for life, alive in self._known.values() if life.service == service]
        found.sort(key=lambda each: each[0].started_ns, reverse=True)
        return found[: self._strategies if service == "strategy" else 1]

    def _is_settled(self, life: Life, now_s: float) -> bool:
        began_earlier = life.started_ns < self._started_ns
        return not began_earlier or now_s - self._started_s >= EARLIER_GRACE_S

    def _saw_run(self, life: Life) -> bool:
        """Whether it ran during the watch.  One that had ended before may be about to run again."""
        return (life.service, life.host, life.starts) in self._seen_running

    def _failed(self, everyone: list[tuple[Life, bool]], now_s: float) -> End | None:
        """An end after which a restart cannot help.  Other strategies may finish their run."""
        failed = [
            life
            for life, alive in everyone
            if not alive
            and life.ended
            and life.final
            and life.exit_code
            and self._is_settled(life, now_s)
        ]
        if not failed:
            return None
        worst = min(failed, key=lambda life: life.exit_code)
        trading = any(life.service == "strategy" and not life.ended for life, _ in everyone)
        if worst.exit_code >= EXIT_INCOMPLETE and trading:
            return None
        if worst.service == "strategy" and worst.exit_code != EXIT_SETTINGS:
            return End(worst.exit_code, worst.reason, reported=True)
        return End(worst.exit_code, f"{worst.service}: {worst.reason}")

    def _completed(self, strategies: list[tuple[Life, bool]], now_s: float) -> End | None:
        complete = [
            life
            for life, alive in strategies
            if not alive
            and life.final
            and life.exit_code == EXIT_OK
            and (self._saw_run(life) or self._is_settled(life, now_s))
        ]
        return End(EXIT_OK, "", True) if len(complete) == self._strategies else None

    def _keeps_dying(self, everyone: list[tuple[Life, bool]], now_s: float) -> End | None:
        for life, _ in everyone:
            restarts = self._restarts_s[life.service, life.host]
            restarts[:] = [t for t in restarts if now_s - t < RESTARTS_WINDOW_S]
            if len(restarts) >= RESTARTS_MAX:
                reason = life.reason or "killed again and again"
                return End(
                    EXIT_FAULT,
                    f"{life.service} keeps dying ({len(restarts)} restarts in "
                    f"{RESTARTS_WINDOW_S:g} s): {reason}",
                )
        return None

    def _gone(self, everyone: list[tuple[Life, bool]], now_s: float) -> End | None:
        """A dead process that has had time to come back.  The engine mends no manual stop."""
        taken_down = self._owner_died() and all(
            not alive and life.ended and life.exit_code in (EXIT_OK, EXIT_INCOMPLETE)
            for life, alive in everyone
        )
        patience_s = 0.0 if taken_down else self._patience_s
        gone = [
            life
            for life, alive in everyone
            if not alive
            and not (life.service == "strategy" and life.final and life.exit_code == EXIT_OK)
            and now_s - self._dead_since_s[life.service, life.host] >= patience_s
        ]
        if not gone:
            return None
        for life in gone:
            if life.service == "strategy" and life.exit_code == EXIT_INCOMPLETE:
                return End(EXIT_INCOMPLETE, life.reason, reported=True)
        if self._owner_died():
            return End(EXIT_FAULT, f"shm is gone and did not come back{self._for_s()}")
        life = gone[0]
        what, reason = "was killed", ""
        if life.ended:
            what, reason = "has ended", f": {life.reason}" if life.reason else ""
        return End(
            EXIT_FAULT, f"{life.service} {what} and did not come back{self._for_s()}{reason}"
        )

    def _missing(self, current: dict[str, list[tuple[Life, bool]]], now_s: float) -> End | None:
        if now_s - self._started_s < self._patience_s:
            return None
        for service, found in current.items():
            wanted = self._strategies if service == "strategy" else 1
            if not found:
                return End(EXIT_FAULT, f"no {service} has started{self._for_s()}")
            if len(found) < wanted:
                return End(
                    EXIT_FAULT,
                    f"{len(found)} of STRATEGIES={wanted} have started{self._for_s()}",
                )
        return None

    def _for_s(self) -> str:
        return f" within {self._patience_s:g} s (STALL_TIMEOUT_S)"
