"""A run without the stack: the same data, strategy and order core in one process."""
