"""What a strategy's class has at hand; its author imports it from ``app.strategy``."""
