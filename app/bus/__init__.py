"""The bus between shards: NATS JetStream carries ticks in and committed orders out."""
