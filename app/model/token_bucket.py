"""A rate limit: a token bucket."""

from app.model.timestamps import NS_PER_S


class TokenBucket:
    """At most ``per_s`` tokens a second; after a pause, up to ``per_s`` at once."""

    __slots__ = ("_last_ns", "_level_ns", "per_s")

    def __init__(self, per_s: int) -> None:
        self.per_s = per_s
        self._level_ns = NS_PER_S
        self._last_ns = 0

    def take(self, now_ns: int) -> bool:
        """Take a token; False if none is left at ``now_ns``."""
        elapsed = max(now_ns - self._last_ns, 0)
        self._last_ns = now_ns
        self._level_ns = min(self._level_ns + elapsed, NS_PER_S)
        price_ns = NS_PER_S // self.per_s
        if self._level_ns < price_ns:
            return False
        self._level_ns -= price_ns
        return True
