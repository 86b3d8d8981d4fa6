"""All client connections of the order port: who is let in, watched, slowed down or dropped."""

import errno
import select
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Final

from app.config import Settings
from app.model.token_bucket import TokenBucket
from app.order_manager.session import Connection
from app.runtime.log import get_logger

log = get_logger()

ACCEPT_BURST: Final = 64
LINGER_S: Final = 1.0
HANDSHAKE_S: Final = 5.0
SWEEP_S: Final = 0.25
IN: Final = select.EPOLLIN
OUT: Final = select.EPOLLOUT


class Connections:
    """Owns the client sockets and the epoll set they are in."""

    def __init__(
        self,
        epoll: select.epoll,
        listener: socket.socket,
        settings: Settings,
        tls: ssl.SSLContext | None,
        needs_token: bool,
    ) -> None:
        self.dropped = 0
        """Connections ended by us, for what they sent or failed to take."""
        self._epoll = epoll
        self._listener = listener
        self._tls = tls
        self._needs_token = needs_token
        self._max = settings.order_connections_max
        self._in_flight_max = settings.order_frames_in_flight_max
        self._unsent_max = settings.order_unsent_bytes_max
        self._frames_per_s = settings.order_frames_per_s_max
        self._stall_ns = int(settings.client_stall_timeout_s * 1e9)
        self._idle_ns = int(settings.order_idle_timeout_s * 1e9)
        self.by_fileno: dict[int, Connection] = {}
        """The connection behind each descriptor that epoll may name."""
        self._attended: set[Connection] = set()
        """Those that the sweep has to look at: handshaking, lingering, or slow to read."""
        self._accepting = True
        self._pause_said = False
        epoll.register(listener.fileno(), IN)

    def __len__(self) -> int:
        return len(self.by_fileno)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self.by_fileno.values()))

    def accept(self) -> None:
        """Take new clients from the backlog, a bounded number at a time."""
        for _ in range(ACCEPT_BURST):
            if len(self.by_fileno) >= self._max:
                self._pause(f"{self._max} connections are open")
                return
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                    self._pause(str(error))
                    return
                continue
            self._admit(sock, f"{address[0]}:{address[1]}")

    def _admit(self, sock: socket.socket, peer: str) -> None:
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError:
            # It has gone again.
            sock.close()
            return
        connection = Connection(sock, peer)
        connection.authorized = not self._needs_token
        if self._frames_per_s:
            connection.bucket = TokenBucket(self._frames_per_s)
        if connection.handshaking:
            self._attended.add(connection)
        self.by_fileno[connection.fileno] = connection
        connection.mask = IN
        self._epoll.register(connection.fileno, IN)

    def _pause(self, reason: str) -> None:
        """Leave new clients in the backlog until one has gone."""
        if self._accepting:
            self._accepting = False
            self._epoll.unregister(self._listener.fileno())
        if not self._pause_said:
            self._pause_said = True
            log.warning("accepting_paused", reason=reason)

    def stop_accepting(self) -> None:
        """Take no more clients."""
        self._max = 0
        if self._accepting:
            self._accepting = False
            self._epoll.unregister(self._listener.fileno())

    def watch(self, connection: Connection) -> None:
        """Watch for what it may do next: a peer that is ahead of us, or slow, is not read from."""
        mask = 0
        if not connection.ended and (
            connection.lingering
            or (
                len(connection.frames) <= self._in_flight_max
                and len(connection.unsent) <= self._unsent_max
            )
        ):
            mask = IN
        if connection.unsent:
            mask |= OUT
            self._attended.add(connection)
        if mask != connection.mask:
            connection.mask = mask
            self._epoll.modify(connection.fileno, mask)

    def send(self, connection: Connection, data: bytes) -> None:
        """Send answers, now or when the peer takes them; ends what has nothing more to say."""
        if connection.fileno not in self.by_fileno or connection.lingering:
            return
        try:
            done = connection.send(data)
            if done and not connection.frames:
                if connection.closing:
                    connection.shutdown_write()
                    self._attended.add(connection)
                elif connection.ended:
                    self.close(connection)
                    return
        except OSError:
            self.close(connection)
            return
        if not done or connection.mask != IN:
            self.watch(connection)

    def refuse(self, connection: Connection, event: str, reason: str) -> None:
        """Let nothing more in from this peer; it is closed once its answers are sent."""
        if not connection.closing:
            connection.closing = True
            connection.frames.clear()
            connection.rest = b""
            self.dropped += 1
            log.warning(event, peer=connection.peer, reason=reason)

    def close(self, connection: Connection) -> None:
        """Close at once and forget."""
        if self.by_fileno.pop(connection.fileno, None) is None:
            return
        self._attended.discard(connection)
        connection.frames.clear()
        self._epoll.unregister(connection.fileno)
        connection.sock.close()
        if not self._accepting and len(self.by_fileno) < self._max:
            self._accepting = True
            self._pause_said = False
            self._epoll.register(self._listener.fileno(), IN)

    def sweep(self) -> None:
        """Drop who does not read, does not finish, or has been silent for too long."""
        now_ns = time.monotonic_ns()
        for connection in list(self._attended):
            waited_ns = now_ns - connection.last_ns
            if connection.lingering or connection.handshaking:
                limit_s = LINGER_S if connection.lingering else HANDSHAKE_S
                if waited_ns > limit_s * 1e9:
                    if connection.handshaking:
                        self.refuse(connection, "tls_failed", "no handshake in time")
                    self.close(connection)
            elif not connection.unsent:
                self._attended.discard(connection)
            elif (
                len(connection.unsent) > self._unsent_max
                and now_ns - connection.stalled_ns > self._stall_ns
            ):
                self.refuse(
                    connection,
                    "client_dropped",
                    f"took no answer for {self._stall_ns / 1e9:g} s, "
                    f"{len(connection.unsent)} bytes behind",
                )
                self.close(connection)
        if self._idle_ns:
            for connection in self:
                if now_ns - connection.last_ns > self._idle_ns and not connection.frames:
                    self.refuse(connection, "client_dropped", "idle for too long")
                    self.close(connection)

    def close_all(self) -> None:
        """Close every connection and the listening socket."""
        self.stop_accepting()
        for connection in self:
            self.close(connection)
        self._listener.close()
