"""The order store: SQLite, one writer, durable before the ACK."""
