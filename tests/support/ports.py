"""Free TCP ports for servers that tests start."""

import os
import random
import socket

FIRST, LAST = 20_000, 32_000
"""Below the kernel's ephemeral range: nobody else is given a port while its server is down."""
WORKERS_MAX = 16


def free_ports(count: int) -> list[int]:
    """Ports on which nothing listens, out of a range of their own for each pytest-xdist worker."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS_MAX
    size = (LAST - FIRST) // WORKERS_MAX
    first = FIRST + worker * size
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(first, first + size)
        with socket.socket() as probe:
            if port not in found and probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
    return found
