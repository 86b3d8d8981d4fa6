"""Servers that misbehave on purpose, on ports that the kernel chooses."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Self

from tests.support.ports import free_ports

TIMEOUT_S = 20.0


class Connection:
    """One accepted connection, read frame by frame."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(TIMEOUT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def frame(self) -> bytes:
        """The next frame from the client without its delimiter; EOFError when the client closes."""
        while b"*" not in self._rest:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self._rest += data
        frame, _, self._rest = self._rest.partition(b"*")
        return frame

    def resume(self) -> int:
        """The sequence that the client asks for in its hello."""
        while not (frame := self.frame()).startswith(b"RESUME|"):
            assert frame in (b"RUN", b"BEAT") or frame.startswith(b"PROOF|"), frame
        return int(frame[7:])

    def send(self, data: bytes, piece: int = 0) -> None:
        """Send ``data`` in pieces of ``piece`` bytes; 0: at once."""
        for start in range(0, len(data), piece or max(len(data), 1)):
            self.sock.sendall(data[start : start + (piece or len(data))])

    def reset(self) -> None:
        """Close the connection with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def finish(self) -> None:
        """Shut down our side and wait for the peer to close."""
        self.sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while self.sock.recv(65536):
                pass


Handler = Callable[[Connection], None]


class FakeServer:
    """Serves one connection at a time: the nth with the nth handler, later ones with the last."""

    def __init__(self, *handlers: Handler) -> None:
        self._handlers = list(handlers)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.connections = 0
        self.errors: list[BaseException] = []
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            self._open.append(sock)
            handler = self._handlers[min(self.connections, len(self._handlers) - 1)]
            self.connections += 1
            try:
                with sock:
                    handler(Connection(sock))
            except (OSError, EOFError):
                pass  # the client disconnected, or the server is closing
            except BaseException as error:
                self.errors.append(error)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()
        if error is None:
            assert not self.errors, self.errors


def unused_port() -> int:
    """A port on which nothing listens."""
    return free_ports(1)[0]
