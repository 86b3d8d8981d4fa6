"""An order manager in a thread of the test, with its own store and metrics."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.config.settings import Settings
from app.order_manager.server import OrderManagerServer
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.net.stack_token import stack_token_path
from tests.support.orders.process import Client


class RunningServer:
    """The server, its thread, and clients of it."""

    def __init__(
        self, server: OrderManagerServer, metrics: ProcessMetrics | None, token: str = ""
    ) -> None:
        self.server = server
        self._token = token
        self.metrics = metrics
        self.port = server.port
        self._thread = threading.Thread(target=server.start, daemon=True)
        self._thread.start()

    def client(self, timeout_s: float = 10.0) -> Client:
        """A new connection: the stack's, unless the server needs a token of its own file."""
        return Client(self.port, timeout_s, token=self._token)

    def stranger(self, timeout_s: float = 10.0) -> Client:
        """A new connection that has sent nothing."""
        return Client(self.port, timeout_s)

    def count(self, name: str) -> int:
        """A counter, after the batch in progress."""
        assert self.metrics is not None
        with self.client() as client:
            client.ask({"op": "ping"})
        return self.metrics.get(name)

    def stop(self) -> None:
        """Stop and wait."""
        self.server.stop()
        self._thread.join(10)
        assert not self._thread.is_alive(), "the server did not stop"


@contextmanager
def running(folder: Path | None = None, **settings: Any) -> Iterator[RunningServer]:
    """A server on a free port; its store is in ``folder``, if given."""
    name = f"orders_{secrets.token_hex(6)}"
    metrics = ProcessMetrics.open(name, "order_manager")
    chosen = None
    if folder is not None:
        path = str(folder / "orders.sqlite3")
        chosen = Settings(
            **{
                "order_store_path": path,
                "output_dir": str(folder),
                "shm_price_book": name + "_book",
                "log_level": "WARNING",
                "venue": "echo",  # no orderbook here
                **settings,
            }
        )
    try:
        server = OrderManagerServer("127.0.0.1", 0, settings=chosen, metrics=metrics)
        token = ""
        if chosen is not None and not chosen.order_token_file:
            token = stack_token_path(chosen, server.port).read_text().strip()
        started = RunningServer(server, metrics, token)
        try:
            yield started
        finally:
            started.stop()
    finally:
        metrics.close()
        (Path("/dev/shm") / name).unlink(missing_ok=True)
