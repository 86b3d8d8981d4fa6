"""Fills as shards publish them, and what they add up to by another arithmetic."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Any, NamedTuple

DAY_NS = 86_400_000_000_000
NOON_NS = 20_000 * DAY_NS + DAY_NS // 2
"""Of a day in 2024."""


class Told(NamedTuple):
    """A fill as its shard tells it; quantity and costs in the shard's own units."""

    shard: str = "a"
    run: str = "r"
    fill_no: int = 1
    at_ns: int = NOON_NS
    symbol: str = "AAPL"
    side: str = "BUY"
    qty: int = 10
    price: int = 100_000_000_000
    fee: int = 0
    slippage: int = 0
    impact: int = 0
    borrow: int = 0
    qty_decimals: int = 0
    store: str = "one"

    def message(self, **changed: Any) -> bytes:
        """The message on ``fills.<shard>``; prices and costs are text, as the bus has them."""
        body = self._asdict()
        del body["shard"], body["store"]
        for name in ("qty", "price", "fee", "slippage", "impact", "borrow"):
            body[name] = str(body[name])
        body |= {"order_no": self.fill_no, "client": "strategy-1", "id": self.fill_no}
        return json.dumps(body | changed).encode()

    @property
    def marks(self) -> str:
        """The header ``Marks``."""
        return f"{self.store}:{self.fill_no}:{self.fill_no}:0" if self.store else ""

    @property
    def exact_qty(self) -> Decimal:
        return Decimal(self.qty).scaleb(-self.qty_decimals)

    @property
    def exact_price(self) -> Decimal:
        return Decimal(self.price).scaleb(-9)

    def cost(self, name: str) -> Decimal:
        return Decimal(getattr(self, name)).scaleb(-9 - self.qty_decimals)

    @property
    def cash(self) -> Decimal:
        """What the fill brings in; negative for a purchase."""
        sign = -1 if self.side == "BUY" else 1
        return sign * self.exact_qty * self.exact_price - self.cost("fee") - self.cost("borrow")

    @property
    def signed(self) -> Decimal:
        return self.exact_qty if self.side == "BUY" else -self.exact_qty

    @property
    def day(self) -> str:
        seconds = self.at_ns // 10**9
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


class Sums(NamedTuple):
    """Of one symbol over some shards."""

    qty: Decimal
    mark: Decimal
    pnl: Decimal
    day_pnl: Decimal
    fees: Decimal
    turnover: Decimal


def latest_price(fills: Iterable[Told]) -> Decimal:
    found = sorted(fills, key=lambda fill: (fill.at_ns, fill.fill_no, fill.price))
    return found[-1].exact_price if found else Decimal(0)


def latest_runs(fills: list[Told]) -> list[Told]:
    """The fills of each shard's run with the highest number."""
    latest: dict[str, tuple[int, str]] = {}
    for fill in fills:
        latest[fill.shard] = max(latest.get(fill.shard, (0, "")), (fill.fill_no, fill.run))
    return [fill for fill in fills if fill.run == latest[fill.shard][1]]


def decimal_sums(fills: list[Told], today: str) -> dict[str, Sums]:
    """By symbol, of the latest runs, from cash and quantities in Decimal, each fill once."""
    fills = latest_runs(fills)
    with localcontext() as context:
        context.prec = 200
        once = {(fill.shard, fill.run, fill.fill_no): fill for fill in fills}.values()
        found = {}
        for symbol in sorted({fill.symbol for fill in once}):
            own = [fill for fill in once if fill.symbol == symbol]
            older = [fill for fill in own if fill.day < today]
            mark, opening = latest_price(own), latest_price(older)
            pnl = sum((f.cash + f.signed * mark for f in own), Decimal(0))
            base = sum((f.cash + f.signed * opening for f in older), Decimal(0))
            found[symbol] = Sums(
                sum((f.signed for f in own), Decimal(0)),
                mark,
                pnl,
                pnl - base,
                sum((f.cost("fee") for f in own), Decimal(0)),
                sum((f.exact_qty * f.exact_price for f in own), Decimal(0)),
            )
        return found
