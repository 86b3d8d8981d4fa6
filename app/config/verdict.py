"""The expectations of a run that ends, and what goes together with them."""

from collections.abc import Iterator
from typing import Protocol

EXPECTATIONS = (
    "expect_orders_min",
    "expect_fills_min",
    "expect_refused_max",
    "expect_pnl_min",
    "expect_pnl_max",
    "expect_trades_hash",
)


class VerdictSettings(Protocol):
    """The part of the settings that this module reads."""

    @property
    def replay(self) -> str: ...
    @property
    def expect_pnl_min(self) -> str: ...
    @property
    def expect_pnl_max(self) -> str: ...
    @property
    def expect_trades_hash(self) -> str: ...
    @property
    def resends_run(self) -> bool: ...


def verdict_problems(settings: VerdictSettings) -> Iterator[str]:
    """Settings that would silently not be checked, one line each."""
    for name in (*EXPECTATIONS, "deadline_s"):
        if getattr(settings, name) and settings.replay != "once":
            yield (
                f"{name.upper()}={getattr(settings, name)}: applies to a run that ends, so it "
                "needs REPLAY=once"
            )
    least, most = settings.expect_pnl_min, settings.expect_pnl_max
    if least and most and float(least) > float(most):
        yield f"EXPECT_PNL_MIN={least}: must not be above EXPECT_PNL_MAX={most}"
    if settings.expect_trades_hash and not settings.resends_run:
        yield (
            f"EXPECT_TRADES_HASH={settings.expect_trades_hash}: only a run with "
            "TRADING_MODE=replay and RING_POLICY=lossless has a trades hash"
        )
