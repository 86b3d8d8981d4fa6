"""The feed on the bus: the sequencer that publishes it, and the consumer of a gateway."""
