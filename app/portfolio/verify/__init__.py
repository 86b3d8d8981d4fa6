"""The portfolio compared with the order stores of its shards."""
