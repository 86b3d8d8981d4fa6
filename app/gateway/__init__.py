"""The gateway: streams market data to any number of clients on two ports."""

from app.gateway.process import load_data, main
from app.gateway.sessions import send_symbol_list

__all__ = ["load_data", "main", "send_symbol_list"]
