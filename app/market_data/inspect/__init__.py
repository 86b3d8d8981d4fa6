"""What a user asks about a data file before it is replayed."""
