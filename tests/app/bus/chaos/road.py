"""The way from one shard to the brokers, which can be cut: a partition."""

import contextlib
import socket
import threading


class Road:
    """TCP ports on loopback, one for each broker; what arrives is passed on, both ways."""

    def __init__(self, broker_ports: list[int]) -> None:
        self._listeners = [socket.create_server(("127.0.0.1", 0)) for _ in broker_ports]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = self._cut = False
        for listener, port in zip(self._listeners, broker_ports, strict=True):
            threading.Thread(target=self._accept, args=(listener, port), daemon=True).start()

    @property
    def url(self) -> str:
        """As BUS_URL."""
        return ",".join(f"nats://127.0.0.1:{each.getsockname()[1]}" for each in self._listeners)

    def cut(self) -> None:
        """Every connection breaks, and each new one at once."""
        with self._lock:
            self._cut = True
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def heal(self) -> None:
        """New connections reach the brokers again."""
        with self._lock:
            self._cut = False

    def close(self) -> None:
        """Break all, for good."""
        self._closed = True
        for listener in self._listeners:
            # An accept that waits ends with a shutdown, not with a close.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def _accept(self, listener: socket.socket, port: int) -> None:
        while not self._closed:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", port), 2)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._open |= {near, far}
                if self._cut:
                    near.shutdown(socket.SHUT_RDWR)
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        with self._lock:
            for end in (source, target):
                self._open.discard(end)
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        source.close()
