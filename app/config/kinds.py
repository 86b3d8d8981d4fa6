"""What a setting can be: a type with its range, and the words that describe it."""

from decimal import Decimal
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from msgspec import Meta

from app.model.money import Scale

Port = Annotated[int, Meta(ge=0, le=65535, description="TCP port; 0 lets the system choose")]
Name = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,200}$", description="a name of letters, digits, _ . -")
]
Positive = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0, le=86400)]
Percent = Annotated[int, Meta(ge=0, le=100)]
StreamBytes = Annotated[int, Meta(ge=1 << 20, le=1 << 50)]
Money = Annotated[float, Meta(ge=0, le=1e15)]
Qty = int | Decimal
"""A quantity, with at most QTY_DECIMALS decimals: :func:`qty_problem`."""
ORDER_QTY_MAX: Final = 1_000_000_000
MoneyOrNone = Annotated[
    str,
    Meta(
        pattern=r"^(-?[0-9]{1,15}(\.[0-9]{1,9})?)?$",
        description="an amount of money such as -250.5, or empty",
    ),
]
CpuList = Annotated[
    str,
    Meta(
        pattern=r"^([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?$",
        description="a list of CPUs such as 0,2-3, or empty",
    ),
]

PACE = r"^(max|[0-9]{1,12}(\.[0-9]{1,6})?(x|/s))$"


def is_zero(pace: str) -> bool:
    """Whether nothing would ever be sent at this pace."""
    return pace != "max" and float(pace.removesuffix("/s").removesuffix("x")) == 0


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    return host == "localhost" or host == "::1" or host.startswith("127.")


def qty_problem(name: str, value: Qty, decimals: int) -> str | None:
    """Why this setting is no quantity; None if it is one."""
    scale, setting = Scale(decimals), f"{name.upper()}={Decimal(value):f}"
    units = scale.qty_units(value)
    if units is None:
        places = "a whole number" if not decimals else f"a number of at most {decimals} decimals"
        return f"{setting}: must be {places}, because QTY_DECIMALS={decimals}"
    # An order that turns a position round is for twice as many.
    most = min(ORDER_QTY_MAX * scale.factor, scale.qty_max // 2)
    if name == "order_qty" and not 0 < units <= most:
        return f"{setting}: must be above 0 and at most {scale.qty_text(most)}"
    return f"{setting}: must not be below 0" if units < 0 else None


_NUMBERS: Final = {int: "a whole number", float: "a number", Qty: "a number"}


def allowed(kind: Any) -> str:
    """What a setting of this kind must be; empty if only the decoder's error tells."""
    if get_origin(kind) is Literal:
        return f"must be one of {', '.join(get_args(kind))}"
    metas = [meta for meta in getattr(kind, "__metadata__", ()) if isinstance(meta, Meta)]
    for meta in metas:
        if meta.pattern and meta.description:
            return f"must be {meta.description}"
    base = get_args(kind)[0] if metas else kind
    if base is bool:
        return "must be true or false"
    if base not in _NUMBERS:
        return ""
    return " ".join([f"must be {_NUMBERS[base]}", *map(_range, metas)])


def _range(meta: Meta) -> str:
    above = f"above {meta.gt}" if meta.gt is not None else f"from {meta.ge}"
    if meta.gt is None and meta.ge is None:
        return f"up to {meta.le}"
    if meta.le is None:
        return above if meta.gt is not None else f"of at least {meta.ge}"
    return f"{above} {'up ' if meta.gt is not None else ''}to {meta.le:.15g}"
