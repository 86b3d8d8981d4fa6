"""The order manager's core without its sockets, clock and file: the backtest's counterparty."""

import msgspec

from app.config.settings import Settings
from app.execution.pending_rows import PendingRows
from app.execution.prices import NoPrices
from app.execution.wiring import build_core
from app.model.money import to_units
from app.model.orders import Order
from app.model.position import Position
from app.model.requests import OrderRequest, Reject
from app.model.wire.decoders import decoder_of
from app.runtime.net.order_client import EncodedOrder


class NoOrders:
    """Finds no order: a backtest sends each id once."""

    def find(self, client_no: int, order_id: int) -> Order | None:
        """Always None."""
        return None

    def current(self, order: Order) -> Order:
        """The order itself."""
        return order


class PaperBroker:
    """Decides on order frames as the order manager does, and keeps the orders in ``orders``."""

    def __init__(self, settings: Settings) -> None:
        self._pending = PendingRows()
        values = msgspec.structs.asdict(settings)
        self.core = build_core(values, NoPrices(), self._pending, NoOrders(), timeless=True)
        self._decode = decoder_of(self.core.scale)
        self.orders: list[Order] = []
        self._marks: dict[str, int] = {}
        """Prices as of the tick of the latest order."""

    def submit(self, encoded: EncodedOrder, now_ns: int) -> Order:
        """Decide on one encoded order; a rejected order has a code."""
        request = self._decode(encoded.frame[:-1])
        assert isinstance(request, OrderRequest), request
        for symbol, price in (encoded.marks or {}).items():
            self._marks[symbol] = to_units(price)
        answer = self.core.submit(request, now_ns, self._marks)
        assert not isinstance(answer, Reject), answer
        self._pending.clear()
        order = answer[0]
        self.orders.append(order)
        return order

    def cost(self, client: str, symbol: str) -> int:
        """What ``client`` paid for what it holds, as :class:`Position` has it."""
        return self.core.clients[client].positions[symbol].cost

    def accrued(self, client: str, marks_ns: dict[str, int]) -> dict[str, int]:
        """Symbol -> borrow that a short of ``client`` owes up to the time of its last price."""
        accrued = self.core.borrow.accrued
        found = {
            symbol: accrued(client, position, marks_ns[symbol], marks_ns[symbol])
            for symbol, position in self.positions(client).items()
        }
        return {symbol: borrow for symbol, borrow in found.items() if borrow}

    def positions(self, client: str) -> dict[str, Position]:
        """Symbol -> what ``client`` holds; empty before its first order."""
        account = self.core.clients.get(client)
        return {} if account is None else dict(account.positions)
