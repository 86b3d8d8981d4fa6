"""The comparisons, in the order of the report."""

from collections.abc import Callable
from functools import partial

from tests.bench.model import (
    Comparison,
    Context,
    Figures,
    Goal,
    Placement,
    Ratio,
    Subject,
    placements,
)
from tests.bench.peers import (
    classroom,
    iceoryx2_peer,
    least_python,
    mp_queue,
    plain_sockets,
    pyzmq_peer,
)
from tests.bench.peers.common import version_of
from tests.bench.subjects import containers, floor, our_book, ours, pages

Run = Callable[[Context], Figures]

STACK = "this stack"
FLOOR = "floor (C)"
FLOOR_COMMIT = "floor (C), synced to disk"
FLOOR_CONTAINED = "floor (C), synced to disk, in containers"
UNSYNCED = f"{STACK}, not synced"
UNTRACED = f"{STACK}, not synced, without the trace of orders"
LEAST = "minimal Python, not synced"
CLASSROOM = "classroom design"
LATENCY = (
    "recv_to_ack_us_p50",
    "recv_to_ack_us_p99",
    "scheduled_to_ack_us_p50",
    "scheduled_to_ack_us_p99",
    "recv_to_decision_us_p50",
    "order_to_ack_us_p50",
    "lost_percent",
)


def _on(run: Callable[[Context, Placement], Figures], place: Placement) -> Run:
    return lambda context: run(context, place)


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
    more = [(n, f"{STACK}, {n} strategies") for n in (2, 4, 8)]
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


def latency(place: Placement) -> Comparison:
    """Tick to ACK against the floor, with the same CPU placement for all."""
    everywhere = place.name == "unpinned"
    contained, two = f"{STACK}, in containers", f"{STACK}, with a second strategy"
    subjects = [
        Subject(FLOOR, _on(floor.chain, place)),
        Subject(LEAST, _on(least_python.chain, place), quick=False),
        Subject(UNSYNCED, lambda context: ours.latency(context, place, synced=False)),
        Subject(UNTRACED, partial(ours.latency, place=place, synced=False, traced=False)),
        Subject(FLOOR_COMMIT, lambda context: floor.chain(context, place, commit=True)),
        Subject(STACK, _on(ours.latency, place)),
    ]
    if place.name != "spread":
        subjects += [
            Subject(FLOOR_CONTAINED, _on(containers.floor_chain, place), quick=False),
            Subject(contained, _on(containers.latency, place), quick=False),
        ]
    peers = [
        Subject(two, lambda context: ours.latency(context, place, strategies=2), quick=False),
        Subject(CLASSROOM, _on(classroom.chain, place)),
        Subject(f"pyzmq{version_of('pyzmq')} chain", _on(pyzmq_peer.chain, place), quick=False),
        Subject(
            f"iceoryx2{version_of('iceoryx2')} chain", _on(iceoryx2_peer.chain, place), quick=False
        ),
    ]
    p50 = 2.0 if place.name == "one-core" else 1.5
    ratios = []
    for of, to in ((UNSYNCED, FLOOR), (STACK, FLOOR_COMMIT), (contained, FLOOR_CONTAINED)):
        ratios += [
            Ratio("recv_to_ack_us_p50", of, to, at_most=p50),
            Ratio("recv_to_ack_us_p99", of, to, at_most=2.0),
        ]
    ratios += [
        Ratio("recv_to_ack_us_p50", LEAST, FLOOR),
        Ratio("recv_to_ack_us_p50", UNSYNCED, LEAST),
        Ratio("recv_to_ack_us_p50", UNSYNCED, UNTRACED, at_most=1.03),
        Ratio("recv_to_ack_us_p50", STACK, FLOOR),
        Ratio("scheduled_to_ack_us_p50", STACK, FLOOR_COMMIT),
        Ratio("recv_to_ack_us_p50", two, STACK, at_most=1.1),
        Ratio("recv_to_ack_us_p50", CLASSROOM, STACK),
    ]
    where = ", ".join(f"{cpus or 'any'}" for cpus in place.lists)
    return Comparison(
        name=f"latency-{place.name}",
        title=f"Tick received to ACK at 2,000 ticks/s, {place.name} (CPUs {where})",
        subjects=tuple([*subjects, *peers] if everywhere else subjects),
        figures=LATENCY if everywhere else LATENCY[:-1],
        ratios=tuple(ratios),
        plot="percentiles",
        leaves_out="the floor neither parses, decides nor stores. `synced to disk` adds one "
        "fdatasync of 200 bytes before each ACK: the minimum cost of a durable ACK on this disk. "
        "`not synced` is the stack with ORDER_STORE_SYNCHRONOUS=NORMAL: safe against a killed "
        "process, not against a power failure. `least Python` uses the same hops and this stack's "
        "ring, and stores and commits one row per order. The peers' chains do no work and their "
        "ACK is not durable. The second strategy decides on every tick but sends no orders.",
        quick=everywhere,
    )


def orders() -> Comparison:
    """Order and answer, one at a time."""
    zmq = f"pyzmq{version_of('pyzmq')} REQ/REP"
    iceoryx = f"iceoryx2{version_of('iceoryx2')} request/response"
    return Comparison(
        name="orders",
        title="Order to ACK, one client, at 2,000 orders/s and back to back",
        subjects=(
            Subject(FLOOR, floor.echo),
            Subject(FLOOR_COMMIT, lambda context: floor.echo(context, commit=True)),
            Subject(f"{STACK}, durable", ours.orders),
            Subject(zmq, pyzmq_peer.orders),
            Subject(iceoryx, iceoryx2_peer.orders),
        ),
        figures=("round_trip_us_p50", "round_trip_us_p99", "round_trips_per_s"),
        ratios=(
            Ratio("round_trip_us_p50", f"{STACK}, durable", FLOOR_COMMIT),
            Ratio("round_trip_us_p50", zmq, FLOOR),
            Ratio("round_trip_us_p50", iceoryx, FLOOR),
        ),
        plot="percentiles",
        leaves_out="only this stack checks, executes and stores the order.",
        quick=False,
    )


def open_pages() -> Comparison:
    """What the dashboard and its proof cost the orders."""
    name = f"{STACK}, with its page"
    return Comparison(
        name="pages",
        title="Order to ACK at 1,000 orders/s beside open pages of the dashboard",
        subjects=(Subject(name, pages.latency),),
        figures=(
            "order_to_ack_us_p50",
            "with_one_page",
            "with_50_pages",
            "page_core_percent",
            "page_mib",
        ),
        goals=(
            Goal("with_50_pages", name, at_most=1.05),
            Goal("page_mib", name, at_most=100.0),
        ),
        leaves_out="`order_to_ack_us_p50` is with dashboard and proof stopped, the next two are "
        "times of it; one of the 50 pages never reads. Core and memory are those of both "
        "processes with one page. The readers of the pages share the cores of the stack.",
        quick=False,
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


def all_comparisons() -> list[Comparison]:
    """All comparisons, in the order of the report."""
    return [
        wire(),
        throughput(),
        *(latency(place) for place in placements()),
        orders(),
        books(),
        open_pages(),
    ]
