"""The feed: ticks from a source, sentiment, and the continuation after the last row."""
