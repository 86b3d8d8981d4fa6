"""What the portfolio does on the bus: reads fills and prices, sends controls."""
