"""What is compared with what, in the order of the report."""

from collections.abc import Callable
from functools import partial

from tests.bench import containers, floor, our_book, ours
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
from tests.bench.peers import classroom, iceoryx2_peer, mp_queue, plain_sockets, pyzmq_peer
from tests.bench.peers.common import version_of

Run = Callable[[Context], Figures]

STACK = "this stack"
FLOOR = "floor (C)"
FLOOR_COMMIT = "floor (C), synced to disk"
CLASSROOM = "classroom design"
LATENCY = (
    "recv_to_ack_us_p50",
    "recv_to_ack_us_p99",
    "scheduled_to_ack_us_p50",
    "scheduled_to_ack_us_p99",
    "order_to_ack_us_p50",
    "lost_percent",
)


def _on(run: Callable[[Context, Placement], Figures], place: Placement) -> Run:
    return lambda context: run(context, place)


def wire() -> Comparison:
    """Raw bandwidth against the real orderbook."""
    subjects = []
    for symbols in (10, 10_000):
        subjects += [
            Subject(
                f"raw loopback, {symbols:,} symbols", partial(floor.bandwidth, symbols=symbols)
            ),
            Subject(f"{STACK}, {symbols:,} symbols", partial(ours.wire, symbols=symbols)),
        ]
    names = [subject.name for subject in subjects]
    return Comparison(
        name="wire",
        title="Wire to price book and ring, the gateway reading a file",
        subjects=tuple(subjects),
        figures=("ticks_per_s", "bytes_per_s"),
        ratios=(
            Ratio("ticks_per_s", names[1], names[0], at_least=0.35),
            Ratio("ticks_per_s", names[3], names[2], at_least=0.25),
            Ratio("ticks_per_s", names[1], names[3], at_most=1.4),
        ),
        leaves_out="raw loopback moves the same bytes and neither reads a file nor looks at them.",
    )


def throughput() -> Comparison:
    """The pipeline against what moves single ticks, or batches by hand."""
    sockets = "plain sockets, 64 ticks per send"
    zmq = f"pyzmq{version_of('pyzmq')} PUSH/PULL"
    iceoryx = f"iceoryx2{version_of('iceoryx2')} publish/subscribe"
    queue = "multiprocessing.Queue"
    return Comparison(
        name="throughput",
        title="Lossless throughput, gateway to strategy",
        subjects=(
            Subject(STACK, ours.pipeline),
            Subject(sockets, plain_sockets.throughput),
            Subject(zmq, pyzmq_peer.throughput),
            Subject(iceoryx, iceoryx2_peer.throughput),
            Subject(queue, mp_queue.throughput),
        ),
        figures=("ticks_per_s",),
        ratios=(
            Ratio("ticks_per_s", STACK, sockets, at_least=1.0),
            Ratio("ticks_per_s", STACK, zmq, at_least=6.0),
            Ratio("ticks_per_s", STACK, iceoryx),
            Ratio("ticks_per_s", STACK, queue),
        ),
        goals=(Goal("ticks_per_s", STACK, at_least=15e6),),
        leaves_out="this stack is three processes and decides on every tick; the peers are two "
        "processes, of which the sockets parse the prices and the others drop what they receive.",
    )


def latency(place: Placement) -> Comparison:
    """Tick to ACK against the floor, all placed alike."""
    everywhere = place.name == "unpinned"
    subjects = [
        Subject(FLOOR, _on(floor.chain, place)),
        Subject(FLOOR_COMMIT, lambda context: floor.chain(context, place, commit=True)),
        Subject(STACK, _on(ours.latency, place)),
        Subject(f"{STACK}, in containers", _on(containers.latency, place), quick=False),
    ]
    peers = [
        Subject(CLASSROOM, _on(classroom.chain, place)),
        Subject(f"pyzmq{version_of('pyzmq')} chain", _on(pyzmq_peer.chain, place), quick=False),
        Subject(
            f"iceoryx2{version_of('iceoryx2')} chain", _on(iceoryx2_peer.chain, place), quick=False
        ),
    ]
    ratios = []
    for subject in (STACK, f"{STACK}, in containers"):
        for floor_name in (FLOOR, FLOOR_COMMIT):
            p50 = 2.0 if place.name == "one-core" else 1.5
            ratios += [
                Ratio("recv_to_ack_us_p50", subject, floor_name, at_most=p50),
                Ratio("recv_to_ack_us_p99", subject, floor_name, at_most=2.0),
            ]
    ratios += [
        Ratio("scheduled_to_ack_us_p50", STACK, FLOOR),
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
        leaves_out="the floor parses, decides and stores nothing; its second row adds one "
        "fdatasync of 200 bytes before each ACK, which is the least that a durable ACK costs on "
        "this disk. The peers' chains do no work either, and their ACK is not durable.",
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


def books() -> Comparison:
    """Price books, one writer and one reader."""
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
        leaves_out="`busy` is with the other process at full pace; every read is of four fields "
        "that belong together, except the locked book's three. `read_us_max` includes the times "
        "at which the system ran something else.",
    )


def by_symbols() -> Comparison:
    """Cost against the number of symbols."""
    counts = (10, 100, 1_000, 10_000)
    return Comparison(
        name="symbols",
        title="Wire to book and ring against the number of symbols",
        subjects=tuple(Subject(f"{n:,} symbols", partial(ours.wire, symbols=n)) for n in counts),
        figures=("ticks_per_s",),
        ratios=(Ratio("ticks_per_s", "10 symbols", "10,000 symbols", at_most=1.4),),
        quick=False,
    )


def by_strategies() -> Comparison:
    """Cost against the number of strategies."""
    return Comparison(
        name="strategies",
        title="Throughput of the slowest strategy against the number of strategy processes",
        subjects=tuple(
            Subject(f"{n} strateg{'y' if n == 1 else 'ies'}", partial(ours.pipeline, strategies=n))
            for n in (1, 2, 4, 8)
        ),
        figures=("ticks_per_s",),
        leaves_out="each strategy is a process: past the number of cores they take turns.",
        quick=False,
    )


def second_strategy() -> Comparison:
    """What a second strategy costs the first in latency."""
    one, two = "one strategy", "two strategies"
    place = Placement("unpinned")
    return Comparison(
        name="second-strategy",
        title="Latency of the first strategy beside a second one, 2,000 ticks/s",
        subjects=(
            Subject(one, lambda context: ours.latency(context, place)),
            Subject(two, lambda context: ours.latency(context, place, strategies=2)),
        ),
        figures=("recv_to_ack_us_p50", "recv_to_ack_us_p99"),
        ratios=(Ratio("recv_to_ack_us_p50", two, one, at_most=1.1),),
        plot="percentiles",
        leaves_out="the second strategy decides on every tick and orders nothing.",
        quick=False,
    )


def by_clients() -> Comparison:
    """Cost against the number of price clients."""
    return Comparison(
        name="clients",
        title="Wire to book and ring against the number of price clients",
        subjects=tuple(
            Subject(f"{n} client{'s' if n > 1 else ''}", partial(ours.wire, symbols=10, clients=n))
            for n in (1, 4, 16)
        ),
        figures=("ticks_per_s",),
        leaves_out="the clients beside the orderbook receive and drop, in one process.",
        quick=False,
    )


def all_comparisons() -> list[Comparison]:
    """In the order of the report."""
    return [
        wire(),
        throughput(),
        *(latency(place) for place in placements()),
        orders(),
        books(),
        by_symbols(),
        by_strategies(),
        second_strategy(),
        by_clients(),
    ]
