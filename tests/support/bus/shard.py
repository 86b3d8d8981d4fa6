"""The publisher of a stack as a process of its own, beside an order manager of a test."""

import signal
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

from app.bus.outbox.mark_file import read_status
from app.order_manager.store.files import mark_path
from tests.support.bus.broker import Cluster
from tests.support.children import die_with_parent, eventually
from tests.support.environ import default_environ
from tests.support.orders.process import OrderManagerProcess
from tests.support.paths import ROOT


class ShardProcess:
    """``python -m app.bus shard``, for the store and the order port of ``manager``."""

    def __init__(
        self, cluster: Cluster, manager: OrderManagerProcess, shard: str = "a", **settings: object
    ) -> None:
        self._manager = manager
        self.shard, self.log_path = shard, manager.folder / "shard.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._settings = {
            **cluster.environ(),
            "SHARD": shard,
            **{name.upper(): str(value) for name, value in settings.items()},
        }

    @property
    def environ(self) -> dict[str, str]:
        """Its environment, with the port that the order manager has now."""
        return {
            **default_environ(),
            "PYTHONPATH": str(ROOT),
            "OUTPUT_DIR": self._manager.environ["OUTPUT_DIR"],
            "ORDER_PORT": str(self._manager.port),
            **self._settings,
        }

    def start(self) -> Self:
        """Start it."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.bus", "shard"],
                cwd=self._manager.folder,
                env=self.environ,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        return self

    def kill(self) -> None:
        """SIGKILL, and wait; nothing if it does not run."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait(10)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Its exit code, once it has ended by itself."""
        assert self.process is not None
        process, self.process = self.process, None
        return process.wait(20)

    def log(self) -> str:
        """Its log so far, of all runs."""
        return self.log_path.read_text()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``python -m app.bus`` with its settings."""
        return subprocess.run(
            [sys.executable, "-m", "app.bus", *arguments],
            cwd=self._manager.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def status(self) -> dict[str, Any]:
        """What ``python -m app.bus status`` prints."""
        found = read_status(mark_path(str(self._manager.store_path)))
        assert found is not None
        return found

    def wait_published(self, rows: int, deadline_s: float = 60.0) -> None:
        """Wait until the stream has so many rows of the store, as the mark file says."""

        def is_there() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log()[-3000:]
            found = read_status(mark_path(str(self._manager.store_path)))
            if found is None:
                return False
            return bool(found["orders"] + found["fills"] + found["changes"] >= rows)

        eventually(is_there, f"{rows} rows are published", deadline_s, poll_s=0.05)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
