"""The strategy interface and the strategies that come with the stack."""
