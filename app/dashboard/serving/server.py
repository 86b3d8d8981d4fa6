"""The HTTP server: uvicorn, with bounds for its connections.

A browser has few connections and says soon what it wants.  So above a number of connections new
ones are closed at once; one that sends no whole request in time is closed; and so is one that does
not read what it asked for.
"""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Generator
from typing import Any, ClassVar, Final, Protocol
from weakref import WeakSet

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.config.settings import Settings
from app.runtime.lifecycle import FatalError
from app.runtime.net.access import server_tls
from app.runtime.net.listener import listen, raise_descriptor_limit

CONNECTIONS_MAX: Final = 256
CONNECTIONS_OF_HOST_MAX: Final = 192
"""So that one other machine cannot take all; this machine's browsers may."""
REQUEST_S: Final = 10.0
"""Time for a whole request."""
HANDSHAKE_S: Final = 5.0
STALL_S: Final = 10.0
"""Time in which a client must read something."""
SWEEP_S: Final = 1.0
KEEP_ALIVE_S: Final = 15
HEADER_BYTES_MAX: Final = 16 * 1024
SEND_BUFFER_BYTES: Final = 64 * 1024
"""In the kernel, of a connection: what a client that never reads can cost."""
BACKLOG: Final = 128
STOP_S: Final = 1


class Counts(Protocol):
    """Where requests and connections are counted: the metrics of a process, or its own."""

    def add(self, name: str, amount: int = 1, /) -> None:
        """Count."""

    def set(self, name: str, value: int, /) -> None:
        """Set a gauge."""


class BoundedProtocol(H11Protocol):
    """One connection."""

    metrics: ClassVar[Counts]
    open: ClassVar[set["BoundedProtocol"]] = set()
    accepted: ClassVar[WeakSet["BoundedProtocol"]] = WeakSet()
    """Also those whose TLS handshake is not over; one that fails is never told of its end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected; closes it at once if there are too many."""
        super().connection_made(transport)
        self._since_s = time.monotonic()
        self._paused_s: float | None = None
        host = self.client[0] if self.client else ""
        same = sum(each.client is not None and each.client[0] == host for each in self.open)
        limit = CONNECTIONS_MAX if host.startswith("127.") else CONNECTIONS_OF_HOST_MAX
        if same >= limit:
            self._refuse()
            return
        self.open.add(self)
        self.metrics.set("connections", len(self.open))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self.open.discard(self)
        self.accepted.discard(self)  # not left to the garbage collector, which may take long
        self.metrics.set("connections", len(self.open))
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        if not self.transport.is_closing():
            super().data_received(data)

    def on_response_complete(self) -> None:
        """The next request has its own time."""
        self._since_s = time.monotonic() + KEEP_ALIVE_S
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client does not read."""
        self._paused_s = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It reads again."""
        self._paused_s = None
        super().resume_writing()

    def _refuse(self) -> None:
        self.metrics.add("connections_refused")
        self.transport.abort()

    def sweep(self, now_s: float) -> None:
        """Close the connection if its client is silent or does not read."""
        cycle = self.cycle
        idle = cycle is None or cycle.response_complete
        if self._paused_s is not None:
            if now_s - self._paused_s > STALL_S:
                self.metrics.add("pages_dropped")
                self.transport.abort()
        elif (idle or cycle.more_body) and now_s - self._since_s > REQUEST_S:
            self._refuse()


class Server(uvicorn.Server):
    """Stops when the process does; leaves the signals to it."""

    def __init__(self, config: uvicorn.Config, tls: ssl.SSLContext | None) -> None:
        super().__init__(config)
        self._tls = tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but a TLS handshake has a time limit, and counts as a connection."""
        loop = asyncio.get_running_loop()
        await self.lifespan.startup()
        tls: dict[str, Any] = {}
        if self._tls is not None:
            tls = {"ssl": self._tls, "ssl_handshake_timeout": HANDSHAKE_S}
        self.servers = [
            await loop.create_server(self._accept, sock=each, backlog=BACKLOG, **tls)
            for each in sockets or []
        ]
        self.started = True

    def _accept(self) -> BoundedProtocol:
        """The protocol of a new connection.

        Raises:
            ConnectionRefusedError: there are too many; asyncio then closes it.
        """
        if len(BoundedProtocol.accepted) >= CONNECTIONS_MAX:
            BoundedProtocol.metrics.add("connections_refused")
            raise ConnectionRefusedError
        made = BoundedProtocol(self.config, self.server_state, self.lifespan.state)
        BoundedProtocol.accepted.add(made)
        return made

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """The process has its own handlers."""
        yield

    async def sweep_forever(self) -> None:
        """Close connections that bring nothing."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = time.monotonic()
            for connection in list(BoundedProtocol.open):
                connection.sweep(now_s)


def make_server(app: Any, settings: Settings, metrics: Counts) -> Server:
    """The server; :func:`open_port` has its socket.

    Raises:
        SettingsError: certificate or key cannot be used.
    """
    BoundedProtocol.metrics = metrics
    raise_descriptor_limit(CONNECTIONS_MAX)
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
        h11_max_incomplete_event_size=HEADER_BYTES_MAX,
    )
    return Server(config, server_tls(settings))


def open_port(setting: str, host: str, port: int) -> socket.socket:
    """The listening socket.

    ``setting``: the one that names the port.

    Raises:
        FatalError: the port cannot be bound.
    """
    try:
        return listen(host, port, backlog=BACKLOG, send_buffer_bytes=SEND_BUFFER_BYTES)
    except OSError as error:
        raise FatalError(
            f"{setting}={port} on {host}: {error.strerror}; "
            "stop what uses it, set another, or 0 for no page",
            final=True,
        ) from error
