"""Runs a backtest again whenever the strategy is saved."""
