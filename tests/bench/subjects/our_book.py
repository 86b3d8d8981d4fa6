"""The price book from Python: updates and consistent reads, alone and concurrently."""

import secrets
import time

from app.kernel import _kernel
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.segment import Segment, SegmentMissing
from app.shared_memory_utils.tick_ring import TickRing
from tests.bench.model import Context, Figures
from tests.bench.subjects import floor, ticks
from tests.bench.subjects.processes import Link, Role, run_roles

SYMBOLS = 10
RECV_BYTES = 1 << 18
RING_TICKS = 1 << 16


def _update_for(link: Link, name: str, seconds: float) -> float:
    symbols = ticks.symbol_names(SYMBOLS)
    with SharedPriceBook(symbols, name) as book:
        link.meet()
        update = book.update
        count, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds:
            for symbol in symbols:
                count += 1
                update(symbol, 187.25, count, count, count)
        link.meet()
    return count / spent


def _push_for(link: Link, name: str, frames: str, seconds: float) -> float:
    """The orderbook's writer at full pace, parsing frames from memory."""
    symbols = ticks.symbol_names(SYMBOLS)
    with open(frames, "rb") as file:
        data = file.read(RECV_BYTES)
    size = data.rfind(b"*", 0, data.rfind(b"*2025-")) + 1
    fill = data.rfind(b"*2025-") + 1 or size
    buffer = bytearray(data[:fill] + bytes(_kernel.PARSE_SLACK_BYTES))
    ring = TickRing.open_writer(f"{name}_ring", RING_TICKS, "latest")
    with SharedPriceBook(symbols, name) as book:
        writer = _kernel.TickWriter(ring.buffer, book.buffer, _kernel.FieldParser(symbols))
        link.meet()
        count, start = 0, time.perf_counter()
        while (now := time.perf_counter()) - start < seconds:
            pushed, _, stop = writer.push(buffer, 0, fill, int(now * 1e9))
            if stop != _kernel.NEED_MORE:
                raise AssertionError(f"the writer stopped with {stop}")
            count += pushed
        link.meet()
        del writer
    ring.close()
    return count / (now - start)


def _read_for(link: Link, name: str, seconds: float, own: bool) -> tuple[float, float]:
    symbols = ticks.symbol_names(SYMBOLS)
    if own:
        SharedPriceBook(symbols, name).update_multiple(dict.fromkeys(symbols, 187.25))
    else:
        link.meet()
    with SharedPriceBook(name=name, create=False) as book:
        read = book.read_tick
        count, start, worst = 0, time.perf_counter(), 0.0
        before = start
        while (spent := before - start) < seconds:
            for symbol in symbols:
                read(symbol)
            now = time.perf_counter()
            worst = max(worst, now - before)
            before = now
            count += len(symbols)
        if not own:
            link.meet()
        return count / spent, worst


def _new_name() -> str:
    return f"bench_{secrets.token_hex(4)}"


def _unlink(name: str) -> None:
    for each in (name, f"{name}_ring"):
        try:
            segment = Segment.attach(each)
        except SegmentMissing:
            continue
        segment.unlink()
        segment.close()


def book(context: Context) -> Figures:
    """Updates alone, reads alone, then both concurrently."""
    name, seconds = _new_name(), context.seconds / 2
    try:
        ((reads, _),) = run_roles([Role(_read_for, (name, seconds, True))])
        _unlink(name)
        updates, _ = run_roles([Role(_update_for, (name, seconds)), Role(_idle)])
        busy_updates, (busy_reads, worst) = run_roles(
            [Role(_update_for, (name, seconds)), Role(_read_for, (name, seconds, False))]
        )
        return {
            "updates_per_s": updates,
            "reads_per_s": reads,
            "busy_updates_per_s": busy_updates,
            "busy_reads_per_s": busy_reads,
            "read_us_max": worst * 1e6,
        }
    finally:
        _unlink(name)


def kernel_book(context: Context) -> Figures:
    """The same with the orderbook's writer."""
    name, seconds = _new_name(), context.seconds / 2
    frames = str(ticks.frame_file(context.data_dir, floor.FRAME_ROWS, SYMBOLS))
    try:
        updates, _ = run_roles([Role(_push_for, (name, frames, seconds)), Role(_idle)])
        busy_updates, (busy_reads, worst) = run_roles(
            [Role(_push_for, (name, frames, seconds)), Role(_read_for, (name, seconds, False))]
        )
        return {
            "updates_per_s": updates,
            "busy_updates_per_s": busy_updates,
            "busy_reads_per_s": busy_reads,
            "read_us_max": worst * 1e6,
        }
    finally:
        _unlink(name)


def _idle(link: Link) -> None:
    link.meet()
    link.meet()
