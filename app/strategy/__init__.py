"""Ticks and sentiment in, orders out; and the base classes of user strategies."""

from app.runtime.net.order_client import send_order
from app.runtime.run.strategy_params import ParamError
from app.strategy.base import Strategy
from app.strategy.cross_check import CrossCheck
from app.strategy.kit.desk import Fill, Reject
from app.strategy.kit.order_desk import Order
from app.strategy.kit.params import Param
from app.strategy.process import main
from app.strategy.reference import (
    MarketDataPoint,
    SentimentDataPoint,
    SentimentStrategy,
    WindowedMovingAverageStrategy,
    cross_check,
)

__all__ = [
    "CrossCheck",
    "Fill",
    "MarketDataPoint",
    "Order",
    "Param",
    "ParamError",
    "Reject",
    "SentimentDataPoint",
    "SentimentStrategy",
    "Strategy",
    "WindowedMovingAverageStrategy",
    "cross_check",
    "main",
    "send_order",
]
