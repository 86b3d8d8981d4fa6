"""The exchange's side of a live feed: what is asked for, received, and understood."""
