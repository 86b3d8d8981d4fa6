"""The limits over all shards: when one is passed, and when it may be passed again."""

from typing import Final, Literal, NamedTuple

from app.config.settings import Settings
from app.portfolio.books import Total
from app.portfolio.fills import ALL

REARM_PERCENT: Final = 90
"""A limit that was passed counts as kept again below this share of it: a value that wavers around
the limit is one breach, not one with every fill."""

Mode = Literal["reduce", "halt"]
EXPOSURE: Final = "exposure"
DAILY_LOSS: Final = "daily_loss"


class Limit(NamedTuple):
    """``most``: units of 1e-18; 0: no limit.  ``mode``: what the shards are told past it."""

    name: str
    setting: str
    most: int
    mode: Mode


class Breach(NamedTuple):
    """A limit that was passed; ``value`` and ``most`` in units of 1e-18."""

    number: int
    limit: str
    mode: Mode
    value: int
    most: int
    began_ns: int

    @property
    def reason(self) -> str:
        """For the shards' logs and audits."""
        return (
            f"{self.limit} over all shards is {ALL.amount_text(self.value)}, "
            f"the limit {ALL.amount_text(self.most)}"
        )


def limits_of(settings: Settings) -> list[Limit]:
    """All limits, also those that are off."""
    mode: Mode = settings.portfolio_on_limit
    return [
        Limit(name, setting.upper(), ALL.amount_units(getattr(settings, setting)), mode)
        for name, setting in (
            (EXPOSURE, "portfolio_exposure_max"),
            (DAILY_LOSS, "portfolio_daily_loss_max"),
        )
    ]


def values_of(total: Total) -> dict[str, int]:
    """What is limited; ``total`` is that of all shards."""
    return {EXPOSURE: total.exposure, DAILY_LOSS: max(0, -total.day_pnl)}


class Watch:
    """Which limits are passed."""

    def __init__(self, limits: list[Limit], active: dict[str, Breach], last_number: int) -> None:
        """``active``: by limit, as the state file has them; ``last_number``: of any breach."""
        self.limits, self.active, self.last_number = limits, active, last_number

    def look(self, values: dict[str, int], now_ns: int) -> tuple[list[Breach], list[Breach]]:
        """The breaches that begin and those that end with these values."""
        begun, ended = [], []
        for limit in self.limits:
            value, breach = values[limit.name], self.active.get(limit.name)
            if breach is None and limit.most and value > limit.most:
                self.last_number += 1
                breach = Breach(self.last_number, limit.name, limit.mode, value, limit.most, now_ns)
                self.active[limit.name] = breach
                begun.append(breach)
            elif breach is not None and (
                not limit.most or value * 100 <= limit.most * REARM_PERCENT
            ):
                del self.active[limit.name]
                ended.append(breach)
        return begun, ended
