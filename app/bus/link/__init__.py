"""How a process reaches the bus: connection, streams, subjects."""
