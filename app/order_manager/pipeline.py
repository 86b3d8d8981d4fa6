"""Wires an order manager: the core on its store, behind the service."""

import msgspec

from app.config import Settings
from app.execution.prices import PriceSource
from app.execution.wiring import build_core
from app.order_manager.service import OrderService
from app.order_manager.session import Session
from app.order_manager.store.store import OrderStore


def build_service(
    settings: Settings, store: OrderStore, prices: PriceSource
) -> OrderService[Session]:
    """The service of one order manager."""
    core = build_core(msgspec.structs.asdict(settings), prices, store.pending, store)
    return OrderService(core, store)
