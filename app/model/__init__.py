"""Money, times, orders, positions and their wire form: pure values, no I/O.

Imports nothing else of app.
"""
