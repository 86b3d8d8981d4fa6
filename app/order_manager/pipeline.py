"""Wires an order manager: checks, venue, core, store, in the order in which an order passes."""

from app.config import Settings
from app.execution.accounts import STACK_NO, Account
from app.execution.order_core import OrderCore
from app.execution.paper_exchange import PaperExchange
from app.execution.prices import PriceSource
from app.execution.risk import RiskConfig, RiskGate
from app.order_manager.service import OrderService
from app.order_manager.session import Session
from app.order_manager.store.store import OrderStore


def build_service(
    settings: Settings, store: OrderStore, prices: PriceSource
) -> OrderService[Session]:
    """Wire checks, venue, core and store."""
    gate = RiskGate(RiskConfig.from_settings(settings), prices, Account(STACK_NO, ""))
    venue = PaperExchange(
        prices, settings.paper_slippage_bps, settings.paper_fill_percent, settings.seed
    )
    core = OrderCore(gate, venue, store.pending, store, settings.order_clients_max)
    return OrderService(core, store)
