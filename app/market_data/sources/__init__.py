"""Sources of ticks: one module per file format, and what they share."""
