"""A real order manager process for tests and benchmarks: start, ask, kill, restart."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.environ import default_environ
from tests.support.paths import ROOT

START_TIMEOUT_S = 20.0


class Client:
    """A blocking client of the order port, frame by frame."""

    def __init__(
        self, port: int, timeout_s: float = 10.0, token: str = "", source: str = ""
    ) -> None:
        """``source``: the address to connect from, such as 127.0.0.2; each is a host of its own."""
        own = (source, 0) if source else None
        self.sock = socket.create_connection(("127.0.0.1", port), timeout_s, own)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        if token:
            assert self.ask({"op": "auth", "token": token})["role"] == "stack"

    def send(self, request: dict[str, Any] | bytes) -> None:
        """Send one request; bytes are sent unchanged."""
        data = request if isinstance(request, bytes) else json.dumps(request).encode() + b"*"
        self.sock.sendall(data)

    def read_frame(self) -> bytes:
        """The next answer, delimiter removed; EOFError if the server has closed."""
        while b"*" not in self._rest:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(self._rest)
            self._rest += data
        frame, _, self._rest = self._rest.partition(b"*")
        return frame

    def read(self) -> dict[str, Any]:
        """The next answer."""
        answer = json.loads(self.read_frame())
        assert isinstance(answer, dict)
        return answer

    def ask(self, request: dict[str, Any] | bytes) -> dict[str, Any]:
        """One request and its answer."""
        self.send(request)
        return self.read()

    def closed(self) -> bool:
        """Whether the server closes within the timeout and sends nothing more."""
        try:
            return self._rest == b"" and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def reset(self) -> None:
        """End the connection with an RST: nothing more is read or sent."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class OrderManagerProcess:
    """``python -m app.order_manager`` on a free port, with its store in ``folder``."""

    def __init__(self, folder: Path, cpus: str = "", **settings: object) -> None:
        self.folder = folder
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.environ = {
            **default_environ(),
            "PYTHONPATH": str(ROOT),
            "ORDER_PORT": "0",
            "OUTPUT_DIR": str(folder),
            "SHM_METRICS": f"orders_test_{os.getpid()}_{id(self):x}",
            "SHM_PRICE_BOOK": f"orders_book_{os.getpid()}_{id(self):x}",
            "ORDER_MANAGER_CPUS": cpus,
            "VENUE": "echo",  # no orderbook here
            **{name.upper(): str(value) for name, value in settings.items()},
        }

    @property
    def store_path(self) -> Path:
        """The store's file."""
        return self.folder / "orders.sqlite3"

    @property
    def output_dir(self) -> Path:
        """The folder with the stack's token."""
        return Path(self.environ["OUTPUT_DIR"])

    @property
    def log_path(self) -> Path:
        """The output of the process."""
        return self.folder / "order_manager.log"

    def log(self) -> str:
        """The log so far, of all runs."""
        return self.log_path.read_text()

    def start(self, wait: bool = True) -> Self:
        """Start it; with ``wait``, return when it answers a ping."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            offset = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.order_manager"],
                cwd=self.folder,
                env=self.environ,
                stdout=log,
                stderr=log,
            )
        if wait:
            self.wait_port(offset)
            with self.client() as client:
                client.ask({"op": "ping"})
        return self

    def wait_port(self, offset: int = 0) -> int:
        """Wait until its log, from ``offset`` on, reports that it is ready; returns its port."""
        assert self.process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            with self.log_path.open() as log:
                log.seek(offset)
                found = re.search(r" ready listen=[^ ]*:(\d+)", log.read())
            if found:
                self.port = int(found[1])
                return self.port
            if self.process.poll() is not None:
                break
            time.sleep(0.005)
        raise AssertionError(f"order manager not ready:\n{self.log()[-2000:]}")

    def client(self, timeout_s: float = 10.0) -> Client:
        """A new connection to it: the stack's, unless it needs a token of its own file."""
        token = ""
        if "ORDER_TOKEN_FILE" not in self.environ or not self.environ["ORDER_TOKEN_FILE"]:
            token = (self.output_dir / f"orders-{self.port}.token").read_text().strip()
        return Client(self.port, timeout_s, token=token)

    def stranger(self, timeout_s: float = 10.0) -> Client:
        """A new connection that has sent nothing."""
        return Client(self.port, timeout_s)

    def kill(self) -> None:
        """SIGKILL, and wait until it has exited."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=10)

    def resident_bytes(self) -> int:
        """Current resident memory."""
        assert self.process is not None
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert found
        return int(found[1]) * 1024

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for segment in Path("/dev/shm").glob(f"{self.environ['SHM_METRICS']}*"):
            segment.unlink(missing_ok=True)
