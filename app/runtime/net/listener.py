"""A listening socket, and file descriptors for its connections."""

import resource
import socket
from typing import Final

from app.runtime.log import get_logger

log = get_logger()

BACKLOG: Final = 4096
SPARE_DESCRIPTORS: Final = 64
"""For files, segments and the listening socket, in addition to those of the connections."""


def listen(
    host: str, port: int, *, backlog: int = BACKLOG, send_buffer_bytes: int | None = None
) -> socket.socket:
    """A non-blocking listening socket; port 0 lets the system choose.

    ``send_buffer_bytes`` sets SO_SNDBUF, which accepted connections inherit; None keeps the
    system's default, which grows by itself.

    Raises:
        OSError: the host is unknown, or the port cannot be bound.
    """
    # A host name is bound to its IPv4 address: health checks and clients use 127.0.0.1.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if send_buffer_bytes is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        listener.bind((host, port))
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


def raise_descriptor_limit(connections_max: int, *, descriptors_each: int = 1) -> None:
    """Allow this process descriptors for every connection, as far as the system permits."""
    wanted = connections_max * descriptors_each + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < wanted:
            enough_for = max(0, allowed - SPARE_DESCRIPTORS) // descriptors_each
            log.warning("few_descriptors", connections_max=enough_for)
