"""A stack on this host with its page, and plain requests to it."""

import json
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.chaos.host import HostStack
from tests.support.ports import free_ports

COMMAND = {"X-Trading-Command": "1", "Content-Type": "application/json"}


class Page:
    """A page at a port of this host."""

    def __init__(self, port: int) -> None:
        self.page_port = port
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Status and body of a GET."""
        return self.ask(urllib.request.Request(self.url + path, headers=headers))

    def post(self, path: str, body: object, **headers: str) -> tuple[int, dict[str, Any]]:
        """Status and answer of a command; ``headers`` replace those of a command."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, COMMAND | headers)
        status, answer = self.ask(request)
        return status, json.loads(answer)

    def ask(self, request: urllib.request.Request) -> tuple[int, bytes]:
        """Status and body, whatever the status."""
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def raw(self, data: bytes, timeout_s: float = 5.0) -> bytes:
        """Send bytes as they are, and read to the end."""
        with socket.create_connection(("127.0.0.1", self.page_port), timeout_s) as connection:
            connection.sendall(data)
            received = b""
            while piece := connection.recv(65536):
                received += piece
            return received

    def snapshot(self, symbol: str = "") -> dict[str, Any]:
        """What a new page gets first."""
        address = f"{self.url}/events?symbol={symbol}"
        with urllib.request.urlopen(address, timeout=10) as stream:
            for line in stream:
                if line.startswith(b"data: "):
                    found: dict[str, Any] = json.loads(line[6:])
                    return found
        raise AssertionError("the stream ended")


class PageStack(Page, HostStack):
    """A stack that shows its page on a port of its own."""

    def __init__(self, folder: Path, **settings: object) -> None:
        (port,) = free_ports(1)
        Page.__init__(self, port)
        HostStack.__init__(self, folder, dashboard_port=port, **settings)

    def wait_page(self) -> None:
        """Wait until the page is served."""
        self.wait_ready()
        self.wait_until("page", lambda: "page_ready" in self.log_path.read_text(), 20)
