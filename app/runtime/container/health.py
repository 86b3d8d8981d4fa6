"""Health check of one process.

``python -S -m app.runtime.container.health SERVICE`` (gateway, orderbook, strategy, order_manager,
dashboard, portfolio or sequencer) exits 0 if the service is healthy: its ports answer, or its
heartbeat in shared memory or in a file is fresh and its state is good.  Otherwise it prints the
reason and exits 1.  Settings come from the environment only, as Compose sets them.

The check runs every few seconds beside the process, so it must start fast: ``-S`` skips
site-packages, and what only one check needs is imported inside it (``json`` alone would add a
third to the run time).
"""

import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

SEQUENCER_FILE = "sequencer_alive"
"""In RUN_DIR; the sequencer touches it every second once its run has begun on every shard."""
SEQUENCER_S_MAX = 30.0
"""While it looks for a broker it touches the file between two attempts only."""
HEALTHY_STATES = frozenset({"ready", "draining", "done"})
ANSWER_TIMEOUT_S = 2.0


class Unhealthy(Exception):
    """The service is not healthy; the message says why."""


def ask(port: int, frame: bytes, until: bytes, tls: bool = False) -> bytes:
    """Send ``frame`` to a port of this host; return the answer up to and including ``until``.

    Raises:
        Unhealthy: the port is closed, or no such answer arrives.
    """
    import socket

    from app.runtime.net.receive import read_until

    try:
        with socket.create_connection(("127.0.0.1", port), ANSWER_TIMEOUT_S) as plain:
            connection = _wrap(plain) if tls else plain
            connection.sendall(frame)
            return read_until(connection, until)
    except OSError as error:
        raise Unhealthy(f"port {port}: {error}") from None


def _wrap(plain: "socket.socket") -> "socket.socket":
    """TLS without verification: the server is on this host, and only its answer matters."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


def check_gateway() -> None:
    """Both feed ports answer a ping."""
    for name, default in (("PRICE_PORT", "9001"), ("SENTIMENT_PORT", "9002")):
        ask(int(os.environ.get(name, default)), b"PING*", b"PONG*")


def check_order_manager() -> None:
    """The order port answers a ping (no token needed), and its store is available."""
    tls = bool(os.environ.get("ORDER_TLS_CERT_FILE"))
    answer = ask(int(os.environ.get("ORDER_PORT", "62000")), b'{"op":"ping"}*', b"*", tls)
    if b'"ok":true' not in answer.replace(b" ", b""):
        raise Unhealthy(f"order port answers {answer[:80]!r}")


def check_portfolio() -> None:
    """Its page answers; nothing else shows its life, for it has no shared memory."""
    port = os.environ.get("PORTFOLIO_PORT", "8081")
    tls = bool(os.environ.get("ORDER_TLS_CERT_FILE"))
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = ask(int(port), request, b"\r\n", tls)
    if b" 200 " not in answer:
        raise Unhealthy(f"the page answers {answer[:80]!r}")


def check_sequencer() -> None:
    """Its run has begun, and it lives: a file says so, for it has no shared memory and no port."""
    path = os.path.join(os.environ.get("RUN_DIR", ""), SEQUENCER_FILE)
    try:
        age_s = time.time() - os.stat(path).st_mtime
    except OSError:
        raise Unhealthy(f"{path}: its run has not begun yet") from None
    if age_s > SEQUENCER_S_MAX:
        raise Unhealthy(f"{path} is {age_s:.0f} s old")


def check_heartbeat(service: str) -> None:
    """A metrics block of ``service`` has a fresh heartbeat and a good state."""
    from app.runtime.metrics.layout import MetricsError, read_liveness

    try:
        blocks = read_liveness(os.environ.get("SHM_METRICS", "trading_metrics"))
    except (MetricsError, OSError) as error:
        raise Unhealthy(str(error)) from None
    limit_s = float(os.environ.get("HEARTBEAT_TIMEOUT_S", "3.0"))
    found = f"no {service} in the metrics segment"
    for block in blocks:
        if block.service != service:
            continue
        age_s = (time.monotonic_ns() - block.heartbeat_ns) / 1e9
        if block.state in HEALTHY_STATES and age_s <= limit_s:
            return
        found = f"{service} is {block.state}, heartbeat {age_s:.1f} s old"
    raise Unhealthy(found)


def main(arguments: list[str]) -> int:
    """Check the named service; 0: healthy, 1: unhealthy, 2: unknown service."""
    service = arguments[0] if len(arguments) == 1 else ""
    try:
        if service == "gateway":
            check_gateway()
        elif service == "order_manager":
            check_order_manager()
        elif service == "portfolio":
            check_portfolio()
        elif service == "sequencer":
            check_sequencer()
        elif service in ("orderbook", "strategy", "dashboard"):
            check_heartbeat(service)
        else:
            print(
                "usage: app.runtime.container.health "
                "gateway|orderbook|strategy|order_manager|dashboard|portfolio|sequencer",
                file=sys.stderr,
            )
            return 2
    except (Unhealthy, ValueError) as error:
        print(f"{service}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
