"""An order manager in a thread of the test, with its own store and metrics."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.config import Settings
from app.order_manager.server import OrderManagerServer
from app.runtime.metrics.process_metrics import ProcessMetrics
from tests.support.orders.process import Client


class RunningServer:
    """The server, its thread, and clients of it."""

    def __init__(self, server: OrderManagerServer, metrics: ProcessMetrics | None) -> None:
        self.server = server
        self.metrics = metrics
        self.port = server.port
        self._thread = threading.Thread(target=server.start, daemon=True)
        self._thread.start()

    def client(self, timeout_s: float = 10.0) -> Client:
        """A new connection."""
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
                "shm_price_book": name + "_book",
                "log_level": "WARNING",
                "venue": "echo",  # no orderbook here
                **settings,
            }
        )
    try:
        started = RunningServer(
            OrderManagerServer("127.0.0.1", 0, settings=chosen, metrics=metrics), metrics
        )
        try:
            yield started
        finally:
            started.stop()
    finally:
        metrics.close()
        (Path("/dev/shm") / name).unlink(missing_ok=True)
