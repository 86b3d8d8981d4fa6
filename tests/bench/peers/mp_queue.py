"""``multiprocessing.Queue``, as in the standard library's documentation."""

import multiprocessing
import time

from tests.bench.model import Context, Figures
from tests.bench.peers.common import FRAME
from tests.bench.subjects.processes import CONTEXT, Link, Role, run_roles

TICKS = 150_000


def _put(link: Link, queue: "multiprocessing.Queue[bytes]", count: int) -> None:
    link.meet()
    for _ in range(count):
        queue.put(FRAME)
    queue.close()
    queue.join_thread()


def _get(link: Link, queue: "multiprocessing.Queue[bytes]", count: int) -> float:
    link.meet()
    get = queue.get
    get()
    start = time.perf_counter()
    for _ in range(count - 1):
        get()
    return (count - 1) / (time.perf_counter() - start)


def throughput(context: Context) -> Figures:
    """Single ticks through a queue, received and discarded."""
    count = context.scaled(TICKS)
    queue: multiprocessing.Queue[bytes] = CONTEXT.Queue()
    _, rate = run_roles([Role(_put, (queue, count)), Role(_get, (queue, count))])
    return {"ticks_per_s": rate}
