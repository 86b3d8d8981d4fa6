"""The feed: ticks from a source, sentiment, and what follows the last row."""
