"""An order core with chosen limits and prices, and a clock that the test sets."""

from typing import Any

from app.execution.accounts import STACK_CLIENT_NO, Account
from app.execution.order_core import OrderCore
from app.execution.paper_exchange import PaperExchange
from app.execution.risk import RiskGate
from app.execution.risk_config import RiskConfig
from app.model.money import UNITS
from app.model.orders import BUY, IOC, PLAIN
from app.model.reject_codes import RejectCode
from app.model.requests import OrderRequest, Reject
from tests.support.orders.prices import PROOF, Prices
from tests.support.orders.simulator import MemoryStore


class Desk:
    """A core with chosen limits."""

    def __init__(self, prices: Prices | None = None, **config: Any) -> None:
        self.prices = prices or Prices(AAPL=100.0)
        gate = RiskGate(RiskConfig(**config), self.prices, Account(STACK_CLIENT_NO, ""))
        self.store = MemoryStore()
        self.core = OrderCore(gate, PaperExchange(self.prices), self.store.pending, self.store)
        self.now_ns = 1_760_000_000 * UNITS
        self._next = 0
        self._last: dict[str, float] = {}

    def order(
        self,
        side: int = BUY,
        qty: int = 10,
        price: float | None = 100.0,
        marks: dict[str, float] | None = None,
        **more: Any,
    ) -> Any:
        """Submit a strategy's order, unless ``proof`` is None; returns it or the reject.

        ``marks``: prices as of its tick, by default that of the symbol's order before.
        """
        self._next += 1
        fields: dict[str, Any] = {
            "side": side,
            "symbol": "AAPL",
            "qty": qty,
            "price": None if price is None else round(price * UNITS),
            "ts": None,
            "id": self._next,
            "client": "desk",
            "type": PLAIN,
            "tif": IOC,
            "proof": PROOF,
        }
        symbol = more.get("symbol", "AAPL")
        if marks is None:
            marks = {symbol: self._last[symbol]} if symbol in self._last else {}
        if price is not None and more.get("type", PLAIN) == PLAIN:
            self._last[symbol] = price
        units = {symbol: round(mark * UNITS) for symbol, mark in (marks or {}).items()}
        result = self.core.submit(OrderRequest(**{**fields, **more}), self.now_ns, units)
        return result if isinstance(result, Reject) else result[0]

    def code(self, *arguments: Any, **more: Any) -> str:
        """Submit an order; returns the name of its reject code, or "ok"."""
        result = self.order(*arguments, **more)
        return RejectCode(result.code).name if result.code else "ok"
