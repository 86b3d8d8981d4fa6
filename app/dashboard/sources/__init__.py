"""What the dashboard reads: counters, prices, sentiment, orders, the proof."""
