"""The comparisons of ticks: wire, throughput, price book."""

from functools import partial

from tests.bench.cases.names import STACK
from tests.bench.model import Comparison, Goal, Ratio, Subject, placements
from tests.bench.peers import classroom, iceoryx2_peer, mp_queue, plain_sockets, pyzmq_peer
from tests.bench.peers.common import version_of
from tests.bench.subjects import floor, our_book, ours


def wire() -> Comparison:
    """Raw bandwidth against the real orderbook; the cost of symbols and of price clients."""
    raw, stack = "raw loopback, {} symbols", f"{STACK}, {{}} symbols"
    few, many = "10", "10,000"
    subjects, ratios = [], []
    for place in placements():
        # On one core, sender and receiver only alternate.
        if place.name not in ("unpinned", "spread"):
            continue
        suffix = "" if place.name == "unpinned" else ", separate cores"
        for name, symbols, goal in ((few, 10, 0.35), (many, 10_000, 0.25)):
            raw_name, stack_name = raw.format(name) + suffix, stack.format(name) + suffix
            subjects += [
                Subject(raw_name, partial(floor.bandwidth, symbols=symbols, place=place)),
                Subject(stack_name, partial(ours.wire, symbols=symbols, place=place)),
            ]
            ratios.append(Ratio("ticks_per_s", stack_name, raw_name, at_least=goal))
    return Comparison(
        name="wire",
        title="Wire to price book and ring, the gateway reading a file",
        subjects=(
            *subjects,
            Subject(stack.format("100"), partial(ours.wire, symbols=100), quick=False),
            Subject(stack.format("1,000"), partial(ours.wire, symbols=1_000), quick=False),
            Subject(
                f"{STACK}, 4 price clients", partial(ours.wire, symbols=10, clients=4), quick=False
            ),
            Subject(
                f"{STACK}, 16 price clients",
                partial(ours.wire, symbols=10, clients=16),
                quick=False,
            ),
        ),
        figures=("ticks_per_s", "bytes_per_s"),
        ratios=(
            *ratios,
            Ratio("ticks_per_s", stack.format(few), stack.format(many), at_most=1.4),
            Ratio("ticks_per_s", f"{STACK}, 4 price clients", stack.format(few)),
            Ratio("ticks_per_s", f"{STACK}, 16 price clients", stack.format(few)),
        ),
        leaves_out="raw loopback neither reads a file nor parses: it sends the same bytes "
        "repeatedly, the gateway sends each row once. Price clients other than the orderbook run "
        "in one process, share its cores, and discard what they receive; the rate is that of the "
        "orderbook, which is served first. `separate cores`: sender and receiver are each pinned "
        "to a core; elsewhere the scheduler places them.",
    )


def throughput() -> Comparison:
    """The pipeline against libraries and hand-made batches; the cost of strategies."""
    sockets = "plain sockets, 64 ticks per send"
    zmq = f"pyzmq{version_of('pyzmq')} PUSH/PULL"
    iceoryx = f"iceoryx2{version_of('iceoryx2')} publish/subscribe"
    queue = "multiprocessing.Queue"
    more = [(n, f"{STACK}, {n} strategies") for n in (4, 8)]
    return Comparison(
        name="throughput",
        title="Lossless throughput, gateway to strategy",
        subjects=(
            Subject(STACK, ours.pipeline),
            Subject(sockets, plain_sockets.throughput),
            Subject(zmq, pyzmq_peer.throughput),
            Subject(iceoryx, iceoryx2_peer.throughput),
            Subject(queue, mp_queue.throughput),
            *(Subject(name, partial(ours.pipeline, strategies=n), quick=False) for n, name in more),
        ),
        figures=("ticks_per_s",),
        ratios=(
            Ratio("ticks_per_s", STACK, sockets, at_least=1.0),
            Ratio("ticks_per_s", STACK, zmq, at_least=6.0),
            Ratio("ticks_per_s", STACK, iceoryx),
            Ratio("ticks_per_s", STACK, queue),
            *(Ratio("ticks_per_s", name, STACK) for _, name in more),
        ),
        goals=(Goal("ticks_per_s", STACK, at_least=15e6),),
        leaves_out="this stack is three processes and decides on every tick. The peers are two "
        "processes: plain sockets parse the prices, the others discard what they receive. Each "
        "strategy is one more process; with more processes than cores they share the cores.",
    )


def books() -> Comparison:
    """Price books with one writer and one reader."""
    ours_name, kernel = f"{STACK}, Python writer", f"{STACK}, orderbook's writer"
    return Comparison(
        name="book",
        title="Price book from Python: one writer, one reader, 10 symbols",
        subjects=(
            Subject(ours_name, our_book.book),
            Subject(kernel, our_book.kernel_book),
            Subject("NumPy under multiprocessing.Lock", classroom.book),
        ),
        figures=(
            "busy_reads_per_s",
            "reads_per_s",
            "busy_updates_per_s",
            "updates_per_s",
            "read_us_max",
        ),
        ratios=(Ratio("busy_reads_per_s", ours_name, "NumPy under multiprocessing.Lock"),),
        goals=(
            Goal("busy_reads_per_s", ours_name, at_least=1e6),
            Goal("busy_reads_per_s", kernel, at_least=1e6),
        ),
        leaves_out="`busy`: the other process runs at full pace. A read returns a consistent set "
        "of four fields, in the locked book three. `read_us_max` includes times at which the "
        "reader was preempted.",
    )
