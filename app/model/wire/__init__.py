"""The bytes of each protocol: frames in, values out, and back; no I/O."""
