"""Bounds a log: the first events of a kind are worth a line each, of the others their number."""

from typing import Final

Kind = tuple[str, str]
OTHER: Final = "other"


class RepeatWindow:
    """Counts events by kind, in windows of ``window_s`` that begin with an event.

    ``logged``: how many of a kind get a line in a window.  Above ``kinds_max`` kinds, further ones
    are counted together.
    """

    def __init__(self, logged: int, window_s: float, kinds_max: int) -> None:
        self._logged, self._window_s, self._kinds_max = logged, window_s, kinds_max
        self._seen: dict[Kind, int] = {}
        self._ends_s = 0.0

    def add(self, kind: Kind, rest: Kind, now_s: float) -> bool:
        """Whether this event gets a line.  ``rest``: its kind when there are too many kinds."""
        if not self._seen:
            self._ends_s = now_s + self._window_s
        if kind not in self._seen and len(self._seen) >= self._kinds_max:
            kind = rest
        self._seen[kind] = seen = self._seen.get(kind, 0) + 1
        return seen <= self._logged

    def take_rest(self, now_s: float, *, end: bool = False) -> list[tuple[Kind, int]]:
        """After a window, or at the end of all: each kind that had more, and how many more."""
        if not self._seen or (not end and now_s < self._ends_s):
            return []
        seen, self._seen = self._seen, {}
        return [
            (kind, count - self._logged) for kind, count in seen.items() if count > self._logged
        ]
