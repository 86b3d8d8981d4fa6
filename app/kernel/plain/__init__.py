"""The kernel in plain Python, for machines without a compiler, and the compiled one's twin."""
