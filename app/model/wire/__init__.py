"""Encodes and decodes the frames of each protocol; no I/O."""
