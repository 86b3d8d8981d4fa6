"""What open pages of the dashboard cost: order latency with none, one and fifty, in turn."""

import contextlib
import os
import selectors
import signal
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from app.runtime.metrics.snapshot import ProcessSnapshot
from tests.bench.model import ANYWHERE, Context, Figures
from tests.bench.subjects import ticks
from tests.bench.subjects.ours import EVERY_TICK, LATENCY_SYMBOLS
from tests.bench.subjects.stack import Stack, of, settings_for
from tests.support.ports import free_ports

RATE_PER_S: Final = 1000
PAGES: Final = 50
CYCLES: Final = 4
SETTLE_S: Final = 0.5
WINDOW_S: Final = 1.5
STARTUP_S: Final = 12
"""At most, from the first tick to the first window."""
DRAIN_BYTES: Final = 1 << 18


class _Pages:
    """Open streams of snapshots; a thread reads and discards what they bring."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def open(self, reads: bool = True) -> None:
        """Open one more page, which never reads its stream unless it ``reads``."""
        page = socket.create_connection(("127.0.0.1", self._port), 10)
        page.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % self._port)
        page.setblocking(False)
        with self._lock:
            self._open.append(page)
            if reads:
                self._selector.register(page, selectors.EVENT_READ)

    def close(self, keep: int = 0) -> None:
        """Close all but the first ``keep``."""
        with self._lock:
            for page in self._open[keep:]:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(page)
                page.close()
            del self._open[keep:]

    def _read(self) -> None:
        while True:
            with self._lock:
                ready = self._selector.select(0)
                for key, _ in ready:
                    if not key.fileobj.recv(DRAIN_BYTES):  # type: ignore[union-attr]
                        self._selector.unregister(key.fileobj)
            time.sleep(0.01)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(each) for each in text.split()]


def _cpu_s(pids: list[int]) -> float:
    """Processor time of the processes so far."""
    ticks_used = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks_used += int(fields[11]) + int(fields[12])
    return ticks_used / os.sysconf("SC_CLK_TCK")


def _mib(pids: list[int]) -> float:
    """Memory of the processes; what both have mapped counts once."""
    kib = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        kib += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib / 1024


@contextlib.contextmanager
def _stopped(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _p50_us(stack: Stack) -> float:
    """Order to ACK of the orders in one window."""

    def strategy() -> ProcessSnapshot:
        return of(stack.metrics(), "strategy")[0]

    time.sleep(SETTLE_S)
    before = strategy().histograms["order_ack_ns"]
    time.sleep(WINDOW_S)
    return (strategy().histograms["order_ack_ns"] - before).percentile(50) / 1e3


def _turns(stack: Stack, pages: _Pages, pids: list[int]) -> tuple[list[float], ...]:
    """p50 of each window: page stopped, one page, fifty of which one never reads; core percent."""
    none, one, many, core_percent = [], [], [], []
    for _ in range(CYCLES):
        with _stopped(pids):
            none.append(_p50_us(stack))
        used_s, began_s = _cpu_s(pids), time.monotonic()
        one.append(_p50_us(stack))
        core_percent.append(100 * (_cpu_s(pids) - used_s) / (time.monotonic() - began_s))
        for number in range(1, PAGES + 1):
            pages.open(reads=number < PAGES)
        many.append(_p50_us(stack))
        pages.close(keep=1)
    return none, one, many, core_percent


def latency(context: Context) -> Figures:
    """An order each tick at 1,000 ticks/s, the page and its proof beside it.

    Alternates within one run, since runs differ by more than pages do.
    """
    quiet = 40 * LATENCY_SYMBOLS
    seconds = CYCLES * 3 * (SETTLE_S + WINDOW_S) + STARTUP_S
    rows = quiet + int(seconds * RATE_PER_S)
    (port,) = free_ports(1)
    settings = settings_for(
        context.work_dir,
        ANYWHERE,
        data_path=str(ticks.price_file(context.data_dir, rows, LATENCY_SYMBOLS, rising=True)),
        sentiment_path=str(ticks.sentiment_file(context.data_dir, LATENCY_SYMBOLS)),
        pace=f"{RATE_PER_S}/s",
        sentiment_subscribers=1,
        dashboard_port=port,
    )
    with Stack(settings, {"bench": EVERY_TICK}, dashboard=True) as stack:
        stack.wait("the page", lambda now: any(p.state == "ready" for p in of(now, "dashboard")))
        stack.wait(
            "orders", lambda now: of(now, "strategy")[0].counters["orders_acked"] > RATE_PER_S
        )
        pages = _Pages(port)
        pages.open()
        time.sleep(WINDOW_S)  # the proof starts with the first page
        dashboard = stack.pid("dashboard")
        pids = [dashboard, *_children(dashboard)]
        none, one, many, core_percent = _turns(stack, pages, pids)
        mib = _mib(pids)
        pages.close()
    none_us = statistics.median(none)
    return {
        "order_to_ack_us_p50": none_us,
        "with_one_page": statistics.median(one) / none_us,
        "with_50_pages": statistics.median(many) / none_us,
        "page_core_percent": statistics.median(core_percent),
        "page_mib": mib,
    }
