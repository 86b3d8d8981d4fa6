"""A set of numbers that are taken nearly in order: which fills of a run are in the books."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator


class Numbers:
    """Whole numbers as ranges without gaps; one range if nothing is missing.

    Membership decides what a repeated fill is, whatever order fills arrive in: a high-water mark
    would take a late one for a repeat.
    """

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        """``ranges``: first and last of each, sorted, none touching the next."""
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self._firsts.append(first)
            self._lasts.append(last)

    def add(self, number: int) -> bool:
        """Add a number; False if it is there already."""
        firsts, lasts = self._firsts, self._lasts
        at = bisect_right(firsts, number)
        """The first range that begins after it."""
        if at and number <= lasts[at - 1]:
            return False
        joins_left = at > 0 and lasts[at - 1] == number - 1
        joins_right = at < len(firsts) and firsts[at] == number + 1
        if joins_left and joins_right:
            lasts[at - 1] = lasts.pop(at)
            del firsts[at]
        elif joins_left:
            lasts[at - 1] = number
        elif joins_right:
            firsts[at] = number
        else:
            firsts.insert(at, number)
            lasts.insert(at, number)
        return True

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number)
        return at > 0 and number <= self._lasts[at - 1]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """First and last of each range, in order."""
        return zip(self._firsts, self._lasts, strict=True)

    def __len__(self) -> int:
        """How many numbers."""
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    @property
    def last(self) -> int:
        """The largest; 0 if there is none."""
        return self._lasts[-1] if self._lasts else 0

    @property
    def missing(self) -> int:
        """How many numbers between the smallest and the largest are not there."""
        return self._lasts[-1] - self._firsts[0] + 1 - len(self) if self._firsts else 0
