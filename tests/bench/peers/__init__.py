"""Alternatives to this stack, each written as its own documentation recommends."""
