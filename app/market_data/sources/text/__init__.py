"""Text files: CSV of any shape and JSON lines, compressed or not."""
