"""What everything trades in: pure values, no I/O; imports nothing else of app."""
