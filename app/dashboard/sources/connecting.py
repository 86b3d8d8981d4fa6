"""A connection that is made in the background: to resolve a name may take many seconds."""

import contextlib
import socket
import threading


class Connecting:
    """Connects, and sends ``hello``; look at :attr:`done` from time to time."""

    def __init__(self, address: tuple[str, int], hello: bytes, timeout_s: float) -> None:
        self._address, self._hello, self._timeout_s = address, hello, timeout_s
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._wanted = True
        self.error = ""
        """Why there is no connection; set before :attr:`done`."""
        self.done = False
        # A daemon: the end of the process does not wait for a name server.
        threading.Thread(target=self._connect, name="connecting", daemon=True).start()

    def _connect(self) -> None:
        made: socket.socket | None = None
        try:
            made = socket.create_connection(self._address, self._timeout_s)
            made.sendall(self._hello)
            made.setblocking(False)
        except OSError as error:
            self.error = f"{self._address[0]}:{self._address[1]}: {error}"
            if made is not None:
                made.close()
                made = None
        with self._lock:
            if made is not None and not self._wanted:
                made.close()
                made = None
            self._socket, self.done = made, True

    def take(self) -> socket.socket | None:
        """The connection, once, when it is done; None if there is an error."""
        with self._lock:
            made, self._socket = self._socket, None
        return made

    def forget(self) -> None:
        """It is not wanted any more, whether it is made already or not."""
        with self._lock:
            self._wanted = False
        if (made := self.take()) is not None:
            with contextlib.suppress(OSError):
                made.close()
