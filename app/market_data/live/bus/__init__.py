"""A feed that arrives in batches from a stream of the message bus, and its recording."""
