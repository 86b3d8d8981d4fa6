"""The orderbook: price feed in, price book and tick ring out."""

from app.orderbook.process import main

__all__ = ["main"]
