"""The four processes on this host under ``app.main``, to be disturbed from outside."""

import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.snapshot import ProcessSnapshot, read_metrics
from tests.support.environ import default_environ
from tests.support.outcome import Outcome, of_store
from tests.support.paths import ROOT

PROCESSES = ("gateway", "orderbook", "order_manager", "strategy")
POLL_S = 0.01
FIRST_PORT, LAST_PORT = 20_000, 32_000
"""Below the system's own ephemeral ports, so that a port stays ours while its server is down."""


class StackFailed(Exception):
    """The stack did not do what was waited for; the text has the end of its log."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(FIRST_PORT, LAST_PORT)
        with socket.socket() as probe:
            if port not in found and probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
    return found


class HostStack:
    """One ``python -m app.main`` with ports, segments and an output folder of its own."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        prices, sentiment, orders = free_ports(3)
        self.price_port, self.sentiment_port, self.order_port = prices, sentiment, orders
        self._token = f"chaos_{secrets.token_hex(4)}"
        self.metrics_name = f"{self._token}_metrics"
        self._environ = {
            **default_environ(),
            "GATEWAY_HOST": "127.0.0.1",
            "ORDER_MANAGER_HOST": "127.0.0.1",
            "BIND_HOST": "127.0.0.1",
            "PRICE_PORT": str(prices),
            "SENTIMENT_PORT": str(sentiment),
            "ORDER_PORT": str(orders),
            "SHM_PRICE_BOOK": f"{self._token}_book",
            "SHM_METADATA": f"{self._token}_metadata",
            "SHM_TICK_RING": f"{self._token}_ring",
            "SHM_METRICS": self.metrics_name,
            "OUTPUT_DIR": str(folder),
            "ORDER_STORE_PATH": "",
            "REPLAY": "once",
            "RUN_ID": "run",
            **{name.upper(): str(value) for name, value in settings.items()},
        }
        self._main: subprocess.Popen[bytes] | None = None

    @property
    def log_path(self) -> Path:
        """Everything the stack said."""
        return self.folder / "stack.log"

    def start(self) -> None:
        """Start it; returns at once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("wb") as log:
            self._main = subprocess.Popen(
                [sys.executable, "-m", "app.main"],
                cwd=ROOT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def pid_of(self, service: str) -> int | None:
        """The living process of a service: a child of our own supervisor, or None."""
        assert self._main is not None
        task = f"/proc/{self._main.pid}/task/{self._main.pid}/children"
        wanted = f"app.{service}".encode()
        try:
            for pid in map(int, Path(task).read_text().split()):
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if wanted in arguments:
                    return pid
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has gone meanwhile
        return None

    def signal(self, service: str, number: int) -> bool:
        """Send a signal to a service; False if it does not run now."""
        pid = self.pid_of(service)
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def hold_restarts(self) -> None:
        """Freeze the supervisor, so that who dies stays dead."""
        assert self._main is not None
        self._main.send_signal(signal.SIGSTOP)

    def allow_restarts(self) -> None:
        """Let it go on."""
        assert self._main is not None
        self._main.send_signal(signal.SIGCONT)

    def metrics(self, service: str) -> ProcessSnapshot | None:
        """The counters of a service, living or dead."""
        try:
            found = read_metrics(self.metrics_name)
        except MetricsError:
            return None
        return next((block for block in found if block.service == service), None)

    def counter(self, service: str, name: str) -> int:
        """One counter; 0 before the process has begun."""
        block = self.metrics(service)
        return 0 if block is None else block.counters.get(name, 0)

    @property
    def running(self) -> bool:
        """Whether the supervisor lives."""
        return self._main is not None and self._main.poll() is None

    def wait_until(self, what: str, holds: Callable[[], object], timeout_s: float) -> float:
        """Poll until it holds; the seconds it took.

        Raises:
            StackFailed: the time is over, or the stack has ended before.
        """
        started_s = time.monotonic()
        while not holds():
            if not self.running:
                raise StackFailed(f"the stack ended before: {what}\n{self.tail()}")
            if time.monotonic() - started_s > timeout_s:
                raise StackFailed(f"not within {timeout_s:g} s: {what}\n{self.tail()}")
            time.sleep(POLL_S)
        return time.monotonic() - started_s

    def wait(self, timeout_s: float) -> int:
        """The exit code of the run.

        Raises:
            StackFailed: it does not end.
        """
        assert self._main is not None
        try:
            return self._main.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise StackFailed(f"no end within {timeout_s:g} s\n{self.tail()}") from None

    def outcome(self) -> Outcome:
        """What the order store holds."""
        return of_store(self.folder / "orders.sqlite3")

    def tail(self, lines: int = 30) -> str:
        """The end of the log."""
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """End everything that runs, and remove its segments."""
        if self._main is not None and self._main.poll() is None:
            self.allow_restarts()
            for service in PROCESSES:
                self.signal(service, signal.SIGCONT)
            self._main.terminate()
            try:
                self._main.wait(20)
            except subprocess.TimeoutExpired:
                for service in PROCESSES:
                    self.signal(service, signal.SIGKILL)
                self._main.kill()
                self._main.wait()
        for path in Path("/dev/shm").glob(f"*{self._token}*"):
            path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
