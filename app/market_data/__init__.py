"""What a feed consists of: ticks from a source, sentiment, and what follows the last row."""
