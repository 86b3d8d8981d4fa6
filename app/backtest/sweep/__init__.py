"""Many backtests that differ in the strategy's parameters, on all cores."""
