"""The view over all shards: positions, profit, limits."""

from app.portfolio.process import main

__all__ = ["main"]
