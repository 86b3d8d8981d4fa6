"""Sockets: clients of the feed and order ports, listening, access control."""
