"""Requests and connections of the page: the portfolio has no shared memory to count them in."""

from collections import Counter

GAUGES = frozenset({"connections"})


class Counts:
    """As the metrics of a process, in memory."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.gauges: dict[str, int] = {}

    def add(self, name: str, amount: int = 1) -> None:
        """Add to a counter."""
        self.totals[name] += amount

    def set(self, name: str, value: int) -> None:
        """Set a gauge."""
        self.gauges[name] = value
