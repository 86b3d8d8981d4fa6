"""The processes of the race tests: a writer at full pace and readers that check every field.

The feed repeats ``PERIOD`` ticks of one symbol, so every field of a tick follows from its sequence.
A tick whose fields contradict each other is torn.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from app.kernel import _kernel
from app.model.tick import TICK_DTYPE
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.tick_ring import TickRing
from tests.support.kernel.helpers import padded

PERIOD = 3000
BASE_NS = 1_735_689_600 * 10**9
"""2025-01-01."""
RING_TICKS = 4096
DISTINCT_MIN = 300
"""This many distinct ticks show that the writer was running, even on a busy machine."""


@dataclass
class Findings:
    """A reader's findings; the first three are the forbidden outcomes."""

    torn: int = 0
    backwards: int = 0
    stale: int = 0
    reads: int = 0
    distinct: int = 0
    lost: int = 0
    seconds: float = 0.0
    first_bad: str = ""

    def bad(self, kind: str, shown: object) -> None:
        """Count a forbidden outcome."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.first_bad = self.first_bad or f"{kind}: {shown}"


def feed() -> tuple[bytes, list[int]]:
    """The period's ticks and the offset of each."""
    offsets, data = [0], b""
    for i in range(PERIOD):
        minute, second = divmod(i, 60)
        hour, minute = divmod(minute, 60)
        data += f"2025-01-01 {hour:02d}:{minute:02d}:{second:02d}*A*{i + 1}.5*".encode()
        offsets.append(len(data))
    return data, offsets


class Writer:
    """Continues where the last writer stopped; ``recv_ns`` is the number of the period."""

    def __init__(self, name: str, policy: str) -> None:
        self.ring = TickRing.open_writer(f"{name}_ring", RING_TICKS, policy)
        self.book = SharedPriceBook(["A"], f"{name}_book")
        self.kernel = _kernel.TickWriter(
            self.ring.buffer, self.book.buffer, _kernel.FieldParser(["A"])
        )
        data, self.offsets = feed()
        self.data, self.end = padded(data), len(data)

    def push(self) -> None:
        """Push as much of the period as fits."""
        period, phase = divmod(self.kernel.state[1], PERIOD)
        _, _, stop = self.kernel.push(self.data, self.offsets[phase], self.end, period)
        if stop == _kernel.FULL:
            self.kernel.wait_space(10**8)

    def run(self) -> None:
        """Write until killed."""
        print("up", flush=True)
        while True:
            self.push()


def read_book(name: str, reads: int) -> Findings:
    """Check every field of each read against its sequence, up to ``reads`` or the run's end."""
    book = SharedPriceBook(name=f"{name}_book", create=False)
    ring = TickRing.attach(f"{name}_ring")
    found, last = Findings(), -1
    view = _kernel.BookView(book.buffer)
    while view.get(0) is None:
        pass
    print("up", flush=True)
    get, prices = view.get, book.prices["price"]
    started = time.perf_counter()
    while (found.reads < reads or found.distinct < DISTINCT_MIN) and ring.state.end_seq is None:
        for _ in range(1000):
            price, event_ns, recv_ns, seq = get(0)
            period, phase = divmod(seq, PERIOD)
            if price != phase + 1.5 or event_ns != BASE_NS + phase * 10**9 or recv_ns != period:
                found.bad("torn", (price, event_ns, recv_ns, seq))
            if seq < last:
                found.bad("backwards", (last, seq))
            found.distinct += seq != last
            last = seq
        found.reads += 1000
        if not 1 <= prices[0] <= PERIOD + 1:
            found.bad("torn", prices[0])
    found.seconds = time.perf_counter() - started
    return found


def check_batch(found: Findings, ticks: Any, position: int, last: int) -> int:
    """Check each record; position equals sequence here.  Returns the last sequence."""
    seqs = ticks["seq"].astype(np.int64)
    phases = seqs % PERIOD
    torn = (ticks["price"] != phases + 1.5) | (ticks["event_ns"] != BASE_NS + phases * 10**9)
    torn |= (ticks["recv_us"] != seqs // PERIOD // 1000) | (ticks["symbol"] != 0)
    if torn.any():
        found.bad("torn", ticks[torn][0])
    if seqs[0] <= last or (np.diff(seqs) <= 0).any():
        found.bad("backwards", (last, seqs[0]))
    if (seqs != np.arange(position, position + len(seqs))).any():
        found.bad("stale", (position, seqs[0]))
    found.reads += len(seqs)
    found.distinct += len(seqs)
    return int(seqs[-1])


def read_ring(name: str, reads: int, policy: int) -> Findings:
    """Check every record under either policy, up to ``reads`` or until the run ends."""
    ring = TickRing.attach(f"{name}_ring")
    registration = ring.register("racer", policy)
    reader = _kernel.TickReader(ring.buffer, registration.slot)
    found, last, out = Findings(), -1, np.zeros(512, TICK_DTYPE)
    print("up", flush=True)
    started = time.perf_counter()
    while found.reads < reads:
        if not reader.wait(10**8):
            if ring.state.end_seq is not None:
                break
            continue
        count = reader.copy(out)
        ticks = out[:count]
        if count:
            last = check_batch(found, ticks, reader.position, last)
            reader.advance(count)
    found.lost = reader.lost
    found.seconds = time.perf_counter() - started
    ring.leave(registration.slot)
    return found


def main() -> None:
    """Arguments: role, segment name prefix, number of reads or policy."""
    role, name, argument = sys.argv[1:]
    if role == "writer":
        Writer(name, argument).run()
    elif role == "book":
        print(json.dumps(asdict(read_book(name, int(argument)))), flush=True)
    else:
        policy = {"lossless": 1, "latest": 2}[role]
        print(json.dumps(asdict(read_ring(name, int(argument), policy))), flush=True)


if __name__ == "__main__":
    main()
