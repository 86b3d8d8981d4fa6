"""The parts of an HTTP server that every page of the stack shares."""
