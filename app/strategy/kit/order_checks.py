"""What a strategy may ask for in an order: quantity and limit, checked where they enter."""

from typing import Final

from app.model.money import MAX_PRICE, UNITS, Scale, to_units

_PRICE_MAX: Final = float(MAX_PRICE)


def checked_qty(qty: object, scale: Scale, in_units: bool) -> int:
    """In units of ``scale``; ``in_units``: ``qty`` is so already.

    Raises:
        ValueError: no order can have it.
    """
    units = qty if in_units and isinstance(qty, int) else scale.own_qty(qty)
    if units is None or not 0 < units <= scale.qty_max:
        most = f"{scale.qty_max // scale.factor:,}"
        if not scale.decimals:
            whole = f"must be a whole number of shares, 1 to {most}"
            raise ValueError(f"qty {qty!r}: {whole}; QTY_DECIMALS allows fractions")
        least = f"1e-{scale.decimals} (QTY_DECIMALS={scale.decimals})"
        shown = scale.qty(units) if in_units and units else qty
        raise ValueError(f"qty {shown!r}: must be a number from {least} to {most}")
    return units


def checked_limit(limit: object) -> float | None:
    """As the wire has it; None is no limit.

    Raises:
        ValueError: no order can have it.
    """
    if limit is None:
        return None
    try:
        price = float(limit)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        price = 0.0
    if isinstance(limit, bool | str) or not (0 < price <= _PRICE_MAX and to_units(price) > 0):
        raise ValueError(f"limit {limit!r}: must be a price above 0, at most {MAX_PRICE:,}")
    # The wire has nine decimals, so the order names the price that the desk compares with.
    return to_units(price) / UNITS
