"""The four processes on this host under ``app.main``, for tests that disturb them."""

import mmap
import os
import secrets
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from app.backtest.outcome import Outcome, of_store
from app.config.settings import Settings
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.snapshot import ProcessSnapshot, read_metrics
from tests.support.environ import default_environ
from tests.support.paths import ROOT
from tests.support.ports import free_ports

PROCESSES = ("gateway", "orderbook", "order_manager", "strategy")
SEGMENTS = ("book", "metadata", "ring", "metrics")
POLL_S = 0.01
READY_TIMEOUT_S = 60.0
RING_TICKS = 65536
PUBLISHED, NEXT_SEQ, END_SEQ, RECORDS = 64, 80, 88, 8192
"""Where the ring has what."""


DYING = """

import os, random, signal, threading
from pathlib import Path

def die_at(low, high):
    for seq in {ticks!r}:
        died = Path({folder!r}) / f"killed_at_{{seq}}"
        if low <= seq <= high and not died.exists():
            died.touch()
            delay_s = random.uniform(0, 0.005)
            threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()

"""
BY_BATCH = """
class Dying({base}):
    def on_batch(self, ticks):
        die_at(ticks["seq"][0], ticks["seq"][-1])
        return super().on_batch(ticks)
"""
BY_TICK = """
class Dying({base}):
    def on_tick(self, tick):
        die_at(tick.seq, tick.seq)
        return super().on_tick(tick)
"""


def dying(
    folder: Path, source: str, base: str, ticks: tuple[int, ...], *, by_tick: bool = False
) -> str:
    """``STRATEGY`` of a class that decides like ``base``, which ``source`` defines or imports.

    ``by_tick``: it has no ``on_batch``, because it places its own orders.

    It is killed once at each of ``ticks``, up to 5 ms after it has seen it: while its orders are
    sent, or soon after.  A test that sends the signals itself may find the process still dead, or
    the run over, since a strategy reads what the ring holds within milliseconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "dying.py"
    code = DYING + (BY_TICK if by_tick else BY_BATCH)
    path.write_text(source + code.format(base=base, ticks=ticks, folder=str(folder)))
    return f"{path}:Dying"


class StackFailed(Exception):
    """An expected state was not reached; the text has the end of the log."""


class HostStack:
    """One ``python -m app.main`` with its own ports, segments and output folder."""

    def __init__(self, folder: Path, *, root: Path = ROOT, **settings: object) -> None:
        """``root``: the folder of the program, of which there may be a copy."""
        self.folder, self._root = folder, root
        prices, sentiment, orders, self.control_port = free_ports(4)
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
            "CONTROL_PORT": str(self.control_port),
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

    def settings(self) -> Settings:
        """The settings of its processes."""
        return Settings.from_environ(self._environ)

    @property
    def environ(self) -> dict[str, str]:
        """Of its processes, for another one beside them."""
        return dict(self._environ)

    @property
    def log_path(self) -> Path:
        """Standard output and error of the stack."""
        return self.folder / "stack.log"

    def segment(self, kind: str) -> str:
        """The name of one of the :data:`SEGMENTS`."""
        return f"{self._token}_{kind}"

    def remove(self, kind: str) -> None:
        """Remove a segment, if it exists just now."""
        (Path("/dev/shm") / self.segment(kind)).unlink(missing_ok=True)

    def start(self) -> None:
        """Start the stack; does not wait for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("wb") as log:
            self._main = subprocess.Popen(
                [sys.executable, "-m", "app.main"],
                cwd=self._root,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def pid_of(self, service: str) -> int | None:
        """The process of a service, a child of the supervisor; None if it does not run."""
        assert self._main is not None
        task = f"/proc/{self._main.pid}/task/{self._main.pid}/children"
        wanted = f"app.{service}".encode()
        try:
            for pid in map(int, Path(task).read_text().split()):
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if wanted in arguments:
                    return pid
        except (FileNotFoundError, ProcessLookupError):
            pass  # the process exited meanwhile
        return None

    def signal(self, service: str, number: int) -> bool:
        """Send a signal to a service; False if it does not run."""
        pid = self.pid_of(service)
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def hold_restarts(self) -> None:
        """Stop the supervisor, so that it restarts nothing."""
        assert self._main is not None
        self._main.send_signal(signal.SIGSTOP)

    def allow_restarts(self) -> None:
        """Continue the supervisor."""
        assert self._main is not None
        self._main.send_signal(signal.SIGCONT)

    def metrics(self, service: str) -> ProcessSnapshot | None:
        """The metrics of a service, running or not; None before it has any."""
        try:
            found = read_metrics(self.metrics_name)
        except MetricsError:
            return None
        return next((block for block in found if block.service == service), None)

    def counter(self, service: str, name: str) -> int:
        """One counter; 0 before the process has started."""
        block = self.metrics(service)
        return 0 if block is None else block.counters.get(name, 0)

    @property
    def running(self) -> bool:
        """Whether the supervisor runs."""
        return self._main is not None and self._main.poll() is None

    def wait_until(self, what: str, holds: Callable[[], object], timeout_s: float) -> float:
        """Poll until ``holds`` is true; returns the seconds it took.

        Raises:
            StackFailed: timeout, or the stack ended first.
        """
        started_s = time.monotonic()
        while not holds():
            if not self.running:
                raise StackFailed(f"the stack ended before: {what}\n{self.tail()}")
            if time.monotonic() - started_s > timeout_s:
                raise StackFailed(f"not within {timeout_s:g} s: {what}\n{self.tail()}")
            time.sleep(POLL_S)
        return time.monotonic() - started_s

    def wait_ready(self) -> None:
        """Wait until the supervisor has seen every process ready; from then on it restarts them."""
        self.wait_until(
            "ready", lambda: "stack_ready" in self.log_path.read_text(), READY_TIMEOUT_S
        )

    def wait(self, timeout_s: float) -> int:
        """Wait for the end of the run; returns its exit code.

        Raises:
            StackFailed: timeout.
        """
        assert self._main is not None
        try:
            return self._main.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise StackFailed(f"no end within {timeout_s:g} s\n{self.tail()}") from None

    def outcome(self) -> Outcome:
        """The outcome in the order store."""
        return of_store(self.folder / "orders.sqlite3")

    def tail(self, lines: int = 30) -> str:
        """The last lines of the log."""
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``python -m app ...`` with the settings of the stack."""
        return subprocess.run(
            [sys.executable, "-m", "app", *arguments],
            cwd=self._root,
            env=self._environ,
            text=True,
            capture_output=True,
            timeout=100,
            check=False,
        )

    def stop(self) -> None:
        """Stop all processes and remove their segments."""
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

    def __exit__(self, *_: object) -> None:
        self.stop()


# ---- Damage to segments


@contextmanager
def opened(stack: HostStack, kind: str) -> Iterator[mmap.mmap]:
    """The bytes of a segment."""
    with (
        (Path("/dev/shm") / stack.segment(kind)).open("r+b") as file,
        mmap.mmap(file.fileno(), 0) as memory,
    ):
        yield memory


def word(memory: mmap.mmap, offset: int) -> int:
    """One of its numbers of 64 bits."""
    return int(struct.unpack_from("<Q", memory, offset)[0])


def flip_published(ring: mmap.mmap) -> None:
    """Ticks that were never written become readable."""
    struct.pack_into("<Q", ring, PUBLISHED, word(ring, PUBLISHED) ^ 1 << 12)


def forge_end(ring: mmap.mmap) -> None:
    """The run seems to be over at the present tick."""
    struct.pack_into("<Q", ring, END_SEQ, word(ring, NEXT_SEQ))


def flip_unread_price(ring: mmap.mmap) -> None:
    """The newest price doubles, or the like; the strategy has been stopped for a while."""
    position = word(ring, PUBLISHED) - 1
    ring[RECORDS + position % RING_TICKS * 32 + 14] ^= 0x10


def flip_header(ring: mmap.mmap) -> None:
    """Of the run's constants."""
    ring[24] ^= 1


def flip_book_price(book: mmap.mmap) -> None:
    """Of the first symbol, in the cell that readers look at."""
    live = book[4096] & 1
    book[4096 + 16 + 24 * live + 14] ^= 0x10
