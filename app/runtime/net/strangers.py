"""Clients that have not shown who they are: bounds for them, where a token is needed."""

from collections import OrderedDict
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
"""Wrong tokens of a host without a wait: somebody has mistyped."""
WAIT_S_MIN: Final = 0.5
WAIT_S_MAX: Final = 30.0
FORGET_S: Final = 300.0
"""After this time without a wrong token, a host starts anew."""
HOSTS_MAX: Final = 1024


def refusal_window() -> RepeatWindow:
    """Bounds the lines about refusals."""
    return RepeatWindow(REFUSALS_LOGGED, REFUSALS_WINDOW_S, REFUSAL_KINDS_MAX)


class WrongTokens:
    """How long a host that has sent wrong tokens has to wait before its next one is looked at.

    After FREE of them, the wait doubles with each, from WAIT_S_MIN to WAIT_S_MAX.  A token that is
    offered meanwhile is not looked at and does not count.  Of more than HOSTS_MAX hosts, the one
    whose last wrong token is oldest is forgotten.  Times are CLOCK_MONOTONIC.
    """

    def __init__(self) -> None:
        self._hosts: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """Host -> wrong tokens in a row, and the time of the last; in order of that time."""

    def __len__(self) -> int:
        return len(self._hosts)

    def wait_s(self, host: str, now_s: float) -> float:
        """The time until a token of this host is looked at; 0: now."""
        if host not in self._hosts:
            return 0.0
        count, last_s = self._hosts[host]
        if now_s - last_s > FORGET_S:
            del self._hosts[host]
            return 0.0
        if count <= FREE:
            return 0.0
        wait_s: float = min(WAIT_S_MIN * 2 ** min(count - FREE - 1, 30), WAIT_S_MAX)
        return max(0.0, last_s + wait_s - now_s)

    def add(self, host: str, now_s: float) -> None:
        """The host has sent a wrong token."""
        count, _ = self._hosts.pop(host, (0, 0.0))
        self._hosts[host] = count + 1, now_s
        if len(self._hosts) > HOSTS_MAX:
            self._hosts.popitem(last=False)

    def forget(self, host: str) -> None:
        """The host has sent a right token."""
        self._hosts.pop(host, None)
