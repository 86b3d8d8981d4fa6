"""A four-process trading stack: gateway, orderbook, strategy, order manager."""
