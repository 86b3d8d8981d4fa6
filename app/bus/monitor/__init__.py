"""What the brokers say of themselves, as metrics: ``python -m app.bus monitor``."""
