"""The compiled kernel: everything that runs once per tick; imports nothing else of app."""
