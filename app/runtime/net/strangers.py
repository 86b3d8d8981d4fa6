"""Clients that have not shown who they are: bounds for them, where a token is needed."""

from collections import deque
from typing import Final

from app.model.repeat_window import RepeatWindow

TOKEN_S: Final = 5.0
"""Time for the token, where one is needed."""
STRANGERS_OF_HOST_MAX: Final = 64
"""Connections of one host without the token."""
STRANGER_FRAME_BYTES_MAX: Final = 4096
REFUSALS_LOGGED: Final = 5
"""Lines about one kind of refusal to one host within REFUSALS_WINDOW_S; the others are counted."""
REFUSALS_WINDOW_S: Final = 10.0
REFUSAL_KINDS_MAX: Final = 256
FREE: Final = 3
"""Wrong tokens of a host that cost nothing: somebody has mistyped."""
FIRST_S: Final = 0.5
LONGEST_S: Final = 30.0
FORGET_S: Final = 60.0
"""A host that sent no wrong token for that long begins anew."""
HOSTS_MAX: Final = 1024


def refusal_window() -> RepeatWindow:
    """Bounds the lines about refusals."""
    return RepeatWindow(REFUSALS_LOGGED, REFUSALS_WINDOW_S, REFUSAL_KINDS_MAX)


class _Host:
    __slots__ = ("count", "last_s", "until_s")

    def __init__(self) -> None:
        self.count = 0
        self.last_s = 0.0
        self.until_s: deque[float] = deque()


class Penalties:
    """What a wrong token costs: for a while, one of its host's STRANGERS_OF_HOST_MAX places.

    A client that mistypes once or twice notices nothing.  But whoever guesses has used up the
    places of his host after some dozens of guesses, and from then on has as many guesses as places
    become free.  Only the stack's own processes need no place.  ``now_s`` is CLOCK_MONOTONIC.
    """

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}
        """The host with the latest wrong token comes last."""

    def add(self, host: str, now_s: float) -> float:
        """A wrong token; returns for how long it costs a place, seconds."""
        found = self._hosts.pop(host, None)
        if found is None or now_s - found.last_s > FORGET_S:
            found = _Host()
        if len(self._hosts) >= HOSTS_MAX:
            del self._hosts[next(iter(self._hosts))]
        self._hosts[host] = found
        found.count += 1
        found.last_s = now_s
        if found.count <= FREE:
            return 0.0
        lasts_s = min(FIRST_S * 2.0 ** min(found.count - FREE - 1, 16), LONGEST_S)
        found.until_s.append(now_s + lasts_s)
        return lasts_s

    def places(self, host: str, now_s: float) -> int:
        """How many places of this host are taken now."""
        found = self._hosts.get(host)
        if found is None:
            return 0
        # Later penalties are never shorter, so they end in their sequence.
        while found.until_s and found.until_s[0] <= now_s:
            found.until_s.popleft()
        return len(found.until_s)
