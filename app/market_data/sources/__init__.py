"""Where ticks come from: one file a format, and what the formats share."""
