"""A listening socket, and enough file descriptors for its clients."""

import resource
import socket
from typing import Final

from app.runtime.log import get_logger

log = get_logger()

BACKLOG: Final = 4096
SPARE_DESCRIPTORS: Final = 64
"""Descriptors beside the connections': files, segments, the listening socket."""


def listen(host: str, port: int) -> socket.socket:
    """A non-blocking listening socket; port 0 lets the system choose.

    Raises:
        OSError: the port cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def raise_descriptor_limit(connections_max: int) -> None:
    """Raise the descriptor limit to one per connection, as far as the system allows."""
    wanted = connections_max + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < wanted:
            log.warning("few_descriptors", connections_max=allowed - SPARE_DESCRIPTORS)
