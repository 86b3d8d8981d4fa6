"""What the market is told: the client of the gateway's control port, its command line, the pace."""
