"""The order manager: orders in, durable ACKs out."""

from app.order_manager.process import main
from app.order_manager.server import MESSAGE_DELIMITER, OrderManagerServer

__all__ = ["MESSAGE_DELIMITER", "OrderManagerServer", "main"]
