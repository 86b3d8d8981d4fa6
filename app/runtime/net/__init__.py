"""Sockets: clients of both ports, listeners, and who may connect."""
