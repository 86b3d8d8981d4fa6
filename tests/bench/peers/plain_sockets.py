"""Plain Python over TCP: 64 encoded ticks per send, split and converted to floats on receipt.

The fastest form in plain Python; prices are parsed but not stored.
"""

import socket
import time
from pathlib import Path

from tests.bench.model import Context, Figures
from tests.bench.peers.common import one_client
from tests.bench.subjects import floor, ticks
from tests.bench.subjects.processes import Link, Role, run_roles

TICKS_PER_SEND = 64
RECV_BYTES = 1 << 16
PASSES = 3


def _send(link: Link, path: str, passes: int) -> None:
    fields = Path(path).read_bytes().split(b"*")
    size = 3 * TICKS_PER_SEND
    blocks = [b"*".join(fields[at : at + size]) + b"*" for at in range(0, len(fields) - 1, size)]
    with one_client(link) as peer:
        for _ in range(passes):
            for block in blocks:
                peer.sendall(block)


def _receive(link: Link) -> tuple[int, float]:
    count, start, rest = 0, 0.0, b""
    with socket.create_connection(("127.0.0.1", link.meet()[0])) as peer:
        while data := peer.recv(RECV_BYTES):
            start = start or time.perf_counter()
            fields = (rest + data).split(b"*")
            whole = (len(fields) - 1) // 3 * 3
            rest = b"*".join(fields[whole:])
            prices = list(map(float, fields[2:whole:3]))
            count += len(prices)
        return count, time.perf_counter() - start


def throughput(context: Context) -> Figures:
    """64 ticks per send, parsed."""
    path = ticks.frame_file(context.data_dir, floor.FRAME_ROWS, 10)
    passes = max(1, context.scaled(PASSES))
    _, (count, seconds) = run_roles([Role(_send, (str(path), passes)), Role(_receive)])
    if count != passes * floor.FRAME_ROWS:
        raise AssertionError(f"{count} ticks arrived of {passes * floor.FRAME_ROWS}")
    return {"ticks_per_s": count / seconds}
