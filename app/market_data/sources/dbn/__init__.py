"""Databento Binary Encoding: trades, quotes and bars as Databento's customers download them."""
