"""The limits that the checks run with; their names come from the table of checks."""

from collections.abc import Mapping
from typing import Any, Final, Self

import msgspec

from app.execution.risk_checks import ACCOUNT, AMOUNT, CHECKS, PRICE, QTY
from app.model.money import WHOLE, Scale, to_units
from app.model.reject_codes import CLOCK_BOUND

LIMIT_UNITS: Final = {check.name: check.unit for check in CHECKS}
"""Limit -> what it is: PRICE, AMOUNT, QTY, or a plain number."""

Limits: Final = msgspec.defstruct(
    "Limits",
    [(check.name, int, 0) for check in CHECKS if check.kind == ACCOUNT],
    frozen=True,
    kw_only=True,
    module=__name__,
)
"""The limits of one account, a field for each row of kind ACCOUNT: 0 is no limit."""


class RiskConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Every limit; prices, amounts and quantities in the units of orders."""

    client: msgspec.Struct = Limits()
    stack: msgspec.Struct = Limits()
    known_symbols: bool = False
    tick_size: int = 0
    lot_size: int = 0
    price_collar_bps: float = 0.0
    price_age_ms_max: int = 0
    repeat_window_s: float = 1.0
    symbols_max: int = 0
    replaying: bool = True
    needs_market: bool = True
    """Whether the venue executes at the book's prices."""
    scale: Scale = WHOLE
    """Of quantities, and of amounts."""

    def __post_init__(self) -> None:
        if self.price_collar_bps and not self.price_age_ms_max:
            raise ValueError("price_collar_bps needs price_age_ms_max")

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """From settings by name: ``risk_<name>``, ``risk_client_<name>``, ``risk_stack_<name>``."""

        scale = Scale(values["qty_decimals"])
        units_of = {PRICE: to_units, AMOUNT: scale.amount_units, QTY: scale.qty_units}

        def limit(prefix: str, name: str) -> Any:
            value = values[f"{prefix}_{name}"]
            unit = LIMIT_UNITS.get(name, "")
            return units_of[unit](value) if unit else value

        def account(prefix: str) -> msgspec.Struct:
            return Limits(**{name: limit(prefix, name) for name in Limits.__struct_fields__})

        return cls(
            client=account("risk_client"),
            stack=account("risk_stack"),
            replaying=values["trading_mode"] == "replay",
            needs_market=values["venue"] != "echo",
            scale=scale,
            **{name: limit("risk", name) for name in SHARED_LIMITS},
        )

    def timeless(self) -> Self:
        """A copy without the limits that depend on when an order arrives, for backtests."""

        def without(limits: msgspec.Struct, names: tuple[str, ...]) -> Any:
            off = [c.name for c in CHECKS if c.code in CLOCK_BOUND and c.name in names]
            return msgspec.structs.replace(limits, **dict.fromkeys(off, 0))

        config: Self = msgspec.structs.replace(
            without(self, SHARED_LIMITS),
            client=without(self.client, Limits.__struct_fields__),
            stack=without(self.stack, Limits.__struct_fields__),
            replaying=True,
        )
        return config


SHARED_LIMITS: Final = tuple(
    name
    for name in RiskConfig.__struct_fields__
    if name not in ("client", "stack", "replaying", "needs_market", "scale")
)
"""Limits that exist once, not per account."""
