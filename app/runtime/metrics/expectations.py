"""What a complete run must have traded: the settings EXPECT_...; no I/O."""

import struct
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

import msgspec

from app.config.settings import Settings
from app.model.trades_hash import hash_text
from app.runtime.metrics.snapshot import ProcessSnapshot

Labeled = list[tuple[str, ProcessSnapshot]]

PNL_STEP: Final = Decimal("0.000001")


class Expectation(msgspec.Struct, frozen=True):
    """One expectation that was checked.

    ``wanted`` is empty for the default of a setting, ``missed`` if every strategy met it.
    """

    setting: str
    wanted: str
    missed: str

    @property
    def name(self) -> str:
        """The setting and its value."""
        return f"{self.setting}={self.wanted}" if self.wanted else self.setting


MONEY_COUNTERS: Final = frozenset({"run_pnl", "latency_cost"})
"""Counters whose word is a double."""


def bits_of_money(amount: float) -> int:
    """A double as the unsigned word of a counter."""
    return int(struct.unpack("=Q", struct.pack("=d", amount))[0])


def money_of_bits(word: int) -> float:
    """The inverse of :func:`bits_of_money`."""
    return float(struct.unpack("=d", struct.pack("=Q", word))[0])


def check_expectations(settings: Settings, labeled: Labeled) -> list[Expectation]:
    """Every expectation of the settings; each strategy must meet it.

    That some order is accepted is expected without a setting.
    """
    strategies = [(label, p.counters) for label, p in labeled if p.service == "strategy"]
    found = []
    for setting, wanted in _wanted(settings):
        misses = [_missed(setting, wanted, counters) for _, counters in strategies]
        named = [
            f"{label} {miss}" for (label, _), miss in zip(strategies, misses, strict=True) if miss
        ]
        found.append(Expectation(setting, wanted, ", ".join(named)))
    return found


def _wanted(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.expect_orders_min:
        yield "EXPECT_ORDERS_MIN", str(settings.expect_orders_min)
    if settings.expect_fills_min:
        yield "EXPECT_FILLS_MIN", str(settings.expect_fills_min)
    yield "EXPECT_REFUSED_MAX", settings.expect_refused_max
    if settings.expect_pnl_min:
        yield "EXPECT_PNL_MIN", settings.expect_pnl_min
    if settings.expect_pnl_max:
        yield "EXPECT_PNL_MAX", settings.expect_pnl_max
    if settings.expect_trades_hash:
        yield "EXPECT_TRADES_HASH", settings.expect_trades_hash


def _missed(setting: str, wanted: str, counters: dict[str, int]) -> str:
    """What a strategy did instead; empty if it meets the expectation."""
    orders, filled = counters["run_orders"], counters["run_filled"]
    refused = counters["run_refused"]
    if setting == "EXPECT_ORDERS_MIN":
        return f"sent {orders:,} orders" if orders < int(wanted) else ""
    if setting == "EXPECT_FILLS_MIN":
        return f"had {filled:,} of {orders:,} orders filled" if filled < int(wanted) else ""
    if setting == "EXPECT_REFUSED_MAX":
        too_many = refused > int(wanted) if wanted else 0 < orders == refused
        return f"had {refused:,} of {orders:,} orders refused" if too_many else ""
    if setting in ("EXPECT_PNL_MIN", "EXPECT_PNL_MAX"):
        return _missed_pnl(setting, Decimal(wanted), counters)
    trades_hash = hash_text(counters["trades_hash"])
    return f"has {trades_hash}" if trades_hash != wanted else ""


def _missed_pnl(setting: str, wanted: Decimal, counters: dict[str, int]) -> str:
    """The PnL is rounded to a millionth, finer than what any report shows."""
    if not counters["run_pnl_known"]:
        return "has no PnL: the order manager did not tell its positions"
    pnl = Decimal(repr(money_of_bits(counters["run_pnl"]))).quantize(PNL_STEP)
    missed = pnl < wanted if setting == "EXPECT_PNL_MIN" else pnl > wanted
    return f"made {pnl:,.2f}" if missed else ""
