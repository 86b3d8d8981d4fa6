"""Money, times, orders, positions and their wire form: pure values, no I/O, no imports from app."""
