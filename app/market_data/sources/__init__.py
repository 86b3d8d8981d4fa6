"""Sources of ticks: one module per file format, and their common parts."""
