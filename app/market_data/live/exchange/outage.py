"""The time without a connection to the exchange: which of its failures get a line in the log.

The exchange decides how often a connection fails and for how many reasons, so lines are bounded:
the first at once, the first few new reasons half a second after the last line at the earliest, and
the state of things now and then, also while an attempt hangs and nothing fails.
"""

from typing import Any, Final

NEW_REASON_S: Final = 0.5
REASONS_MAX: Final = 4
"""Different ones that are said soon; a reason with an id would be a new one each time."""
SAID_AGAIN_S: Final = 5.0
SAID_AGAIN_S_MAX: Final = 60.0
"""The pause between two lines doubles up to this."""

Line = dict[str, Any]


class Outage:
    """One time without a connection, which began at ``since_s`` of a monotonic clock."""

    def __init__(self, since_s: float) -> None:
        self._since_s = since_s
        self._attempts = 0
        self._reason = ""
        self._said: set[str] = set()
        self._next_try_s = 0.0
        self._said_s = since_s
        self._pause_s = SAID_AGAIN_S

    def failed(self, reason: str, pause_s: float, now_s: float) -> Line | None:
        """The connection broke, or an attempt to make one failed; the line to log now."""
        first = not self._reason
        self._attempts += 1
        self._reason, self._next_try_s = reason, now_s + pause_s
        return self._line(now_s) if first else self.still(now_s)

    def still(self, now_s: float) -> Line | None:
        """The line to log now because the reason is a new one, or the last line is long ago."""
        new = self._reason not in self._said and len(self._said) < REASONS_MAX
        if new and self._reason and now_s >= self._said_s + NEW_REASON_S:
            return self._line(now_s)
        if not self._reason or now_s < self._said_s + self._pause_s:
            return None
        self._pause_s = min(2 * self._pause_s, SAID_AGAIN_S_MAX)
        return self._line(now_s)

    def over(self, now_s: float) -> Line:
        """There is a connection: how long there was none; nothing if none has failed."""
        if not self._reason:
            return {}
        return {"lost_s": round(now_s - self._since_s, 3), "attempts": self._attempts}

    def _line(self, now_s: float) -> Line:
        if len(self._said) < REASONS_MAX:
            self._said.add(self._reason)
        self._said_s = now_s
        next_try_s = max(self._next_try_s - now_s, 0.0)
        return {
            "reason": self._reason,
            **self.over(now_s),
            "next_try_s": round(next_try_s, 3),
        }
