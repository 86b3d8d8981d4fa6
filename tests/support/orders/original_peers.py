"""The peers of the original design, from its written protocol alone: bare sockets, nothing of app.

A gateway that sends prices and sentiment, a client that reads them, a client that sends orders on a
connection each, and an order manager that reads ``float(order["ts"])``.
"""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, Self

TIMEOUT_S = 30.0
Row = tuple[str, str, str, int]
"""Timestamp, symbol, price and sentiment."""


def read_frames(connection: socket.socket, enough: Callable[[list[str]], bool]) -> list[str]:
    """Frames until there are enough, or the peer closes."""
    text, frames = "", []
    while not enough(frames):
        data = connection.recv(4096)
        if not data:
            break
        text += data.decode()
        *complete, text = text.split("*")
        frames += complete
    return frames


def read_triples(port: int, count: int, head: int = 0) -> tuple[list[str], list[list[str]]]:
    """The plain client of a feed: ``head`` frames, then ``count`` triples; it sends nothing."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        frames = read_frames(connection, lambda found: len(found) >= head + 3 * count)
    body = frames[head : head + 3 * count]
    return frames[:head], [body[at : at + 3] for at in range(0, len(body), 3)]


def send_order(port: int, **order: Any) -> dict[str, Any]:
    """The order client: one connection, one order, one answer."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        connection.sendall(json.dumps(order).encode() + b"*")
        (answer,) = read_frames(connection, lambda found: len(found) == 1)
    read = json.loads(answer)
    assert isinstance(read, dict)
    return read


class _Server:
    """A listening socket and a thread for each connection."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.errors: list[BaseException] = []
        self._ended = threading.Event()

    def serve(self, connection: socket.socket) -> None:
        """One connection."""
        raise NotImplementedError

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(TIMEOUT_S)
                threading.Thread(target=self._guard, args=(connection,), daemon=True).start()

    def _guard(self, connection: socket.socket) -> None:
        try:
            with connection:
                self.serve(connection)
        except OSError:
            pass  # the peer disconnected
        except BaseException as error:
            self.errors.append(error)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class PriceGateway(_Server):
    """Sends the symbol list and the prices to each client, and reads nothing.

    It waits for ``start`` before the first price, so that a test can have all clients there.
    """

    def __init__(self, rows: list[Row], start: threading.Event) -> None:
        super().__init__()
        self._rows, self._start = rows, start

    def serve(self, connection: socket.socket) -> None:
        """The whole stream, then the connection stays open."""
        symbols = ",".join(dict.fromkeys(symbol for _, symbol, _, _ in self._rows))
        connection.sendall(f"SYMBOLS|{symbols}*".encode())
        self._start.wait(TIMEOUT_S)
        for timestamp, symbol, price, _ in self._rows:
            connection.sendall(f"{timestamp}*{symbol}*{price}*".encode())
        self._ended.wait()


class SentimentGateway(_Server):
    """Sends the sentiment of every row to each client, at once."""

    def __init__(self, rows: Iterable[Row]) -> None:
        super().__init__()
        self._data = "".join(f"{when}*{symbol}*{value}*" for when, symbol, _, value in rows)

    def serve(self, connection: socket.socket) -> None:
        """The whole stream, then the connection stays open."""
        connection.sendall(self._data.encode())
        self._ended.wait()


class OrderManager(_Server):
    """Reads each order's members as the original does, keeps it, and answers."""

    def __init__(self) -> None:
        super().__init__()
        self.orders: list[tuple[float, str, str, int, float]] = []

    def serve(self, connection: socket.socket) -> None:
        """Orders of one client, each answered."""
        text = ""
        while data := connection.recv(4096):
            text += data.decode()
            *frames, text = text.split("*")
            for frame in frames:
                connection.sendall(self._answer(frame))

    def _answer(self, frame: str) -> bytes:
        try:
            order = json.loads(frame)
        except json.JSONDecodeError:
            return b'{"ok": false, "msg": "bad_json"}*'
        kept = (
            float(order["ts"]),
            str(order["side"]),
            str(order["symbol"]),
            int(order["qty"]),
            float(order["price"]),
        )
        self.orders.append(kept)
        return json.dumps({"ok": True, "order": order}).encode() + b"*"
