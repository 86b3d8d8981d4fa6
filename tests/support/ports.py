"""Free TCP ports for servers that tests start."""

import contextlib
import random
import socket
from collections import deque

FIRST, LAST = 20_000, 32_000
"""Below the kernel's ephemeral range: a port is not given away while its server is down."""
RESERVATIONS_MAX = 60

_reservations: deque[socket.socket] = deque()


def free_ports(count: int) -> list[int]:
    """Ports on which nothing listens, and which no other test process on this host is given.

    A reservation is an abstract Unix socket named after the port; this process keeps the newest.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(FIRST, LAST)
        reservation = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError), socket.socket() as probe:
            reservation.bind(f"\0trading-test-port-{port}")
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
                _reservations.append(reservation)
                continue
        reservation.close()
    while len(_reservations) > RESERVATIONS_MAX:
        _reservations.popleft().close()
    return found
