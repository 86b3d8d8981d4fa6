"""The run: its name, and its shared memory as a whole."""
