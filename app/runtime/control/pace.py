"""The pace of the market as counters of the gateway, ``pace_kind`` and ``pace_millionths``."""

from fractions import Fraction
from typing import Final

MILLION: Final = 1_000_000
TICKS_PER_S: Final = 2
LIVE: Final = "live"
"""As the ticks of a live feed arrive."""
KINDS: Final = {1: "max", TICKS_PER_S: "/s", 3: "x", 4: LIVE}
"""``pace_kind`` -> the end of the pace's text.  0: no pace is known."""


def pace_numbers(text: str) -> tuple[int, int]:
    """A pace as its two counters.

    A pace has at most six decimals, so this is exact.
    """
    kind = next(number for number, end in KINDS.items() if text.endswith(end))
    number = text.removesuffix(KINDS[kind])
    return kind, int(Fraction(number) * MILLION) if number else 0


def pace_text(kind: int, millionths: int) -> str:
    """The pace that :func:`pace_numbers` made these numbers of."""
    if KINDS[kind] in ("max", LIVE):
        return KINDS[kind]
    whole, rest = divmod(millionths, MILLION)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".") + KINDS[kind]
