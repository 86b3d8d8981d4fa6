"""The client of the gateway's control port, and its command line."""
