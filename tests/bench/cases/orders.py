"""The comparisons of orders: from tick to ACK, from order to ACK, beside the dashboard."""

from collections.abc import Callable
from functools import partial

from tests.bench.cases.names import STACK
from tests.bench.model import Comparison, Context, Figures, Goal, Placement, Ratio, Subject
from tests.bench.peers import classroom, iceoryx2_peer, least_python, pyzmq_peer
from tests.bench.peers.common import version_of
from tests.bench.subjects import containers, floor, ours, pages

Run = Callable[[Context], Figures]

FLOOR = "floor (C)"
FLOOR_COMMIT = "floor (C), synced to disk"
FLOOR_CONTAINED = "floor (C), synced to disk, in containers"
UNSYNCED = f"{STACK}, not synced"
UNTRACED = f"{STACK}, not synced, without the trace of orders"
IN_MEMORY = f"{STACK}, orders in memory only"
LEAST = "minimal Python, not synced"
LEAST_IN_MEMORY = "minimal Python, nothing stored"
CLASSROOM = "classroom design"
CONTAINED = f"{STACK}, in containers"
TWO = f"{STACK}, with a second strategy"
ZMQ = f"pyzmq{version_of('pyzmq')} chain"
ICEORYX = f"iceoryx2{version_of('iceoryx2')} chain"
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


def _ratios(place: Placement) -> tuple[Ratio, ...]:
    anywhere, one_core = place.name == "unpinned", place.name == "one-core"
    durable = 2.0 if one_core else 1.5
    goals = (
        (UNSYNCED, FLOOR, 2.0),
        (STACK, FLOOR_COMMIT, durable),
        (CONTAINED, FLOOR_CONTAINED, durable),
    )
    ratios = []
    for of, to, p50 in goals:
        ratios += [
            Ratio("recv_to_ack_us_p50", of, to, at_most=p50),
            Ratio("recv_to_ack_us_p99", of, to, at_most=2.0),
        ]
    return (
        *ratios,
        Ratio("recv_to_ack_us_p50", LEAST, FLOOR),
        Ratio("recv_to_ack_us_p50", UNSYNCED, LEAST, at_most=1.3 if anywhere else None),
        Ratio("recv_to_ack_us_p50", IN_MEMORY, LEAST_IN_MEMORY),
        Ratio("recv_to_ack_us_p50", IN_MEMORY, ZMQ, at_most=1.0),
        Ratio("recv_to_ack_us_p50", IN_MEMORY, ICEORYX, at_most=1.0),
        Ratio("recv_to_ack_us_p50", UNSYNCED, UNTRACED, at_most=1.03),
        Ratio("recv_to_ack_us_p50", STACK, FLOOR),
        Ratio("scheduled_to_ack_us_p50", STACK, FLOOR_COMMIT),
        Ratio("recv_to_ack_us_p50", TWO, STACK, at_most=1.1),
        Ratio("recv_to_ack_us_p50", CLASSROOM, STACK),
    )


def latency(place: Placement) -> Comparison:
    """Tick to ACK against the floor, with the same CPU placement for all."""
    everywhere = place.name == "unpinned"
    subjects = [
        Subject(FLOOR, _on(floor.chain, place)),
        Subject(LEAST, _on(least_python.chain, place), quick=False),
        Subject(UNSYNCED, lambda context: ours.latency(context, place, synced=False)),
        Subject(IN_MEMORY, partial(ours.latency, place=place, stored=False), quick=False),
        Subject(
            LEAST_IN_MEMORY, partial(least_python.chain, place=place, stored=False), quick=False
        ),
        Subject(UNTRACED, partial(ours.latency, place=place, synced=False, traced=False)),
        Subject(FLOOR_COMMIT, lambda context: floor.chain(context, place, commit=True)),
        Subject(STACK, _on(ours.latency, place)),
    ]
    if place.name != "spread":
        subjects += [
            Subject(FLOOR_CONTAINED, _on(containers.floor_chain, place), quick=False),
            Subject(CONTAINED, _on(containers.latency, place), quick=False),
        ]
    peers = [
        Subject(TWO, lambda context: ours.latency(context, place, strategies=2), quick=False),
        Subject(CLASSROOM, _on(classroom.chain, place)),
        Subject(ZMQ, _on(pyzmq_peer.chain, place), quick=False),
        Subject(ICEORYX, _on(iceoryx2_peer.chain, place), quick=False),
    ]
    where = ", ".join(f"{cpus or 'any'}" for cpus in place.lists)
    return Comparison(
        name=f"latency-{place.name}",
        title=f"Tick received to ACK at 2,000 ticks/s, {place.name} (CPUs {where})",
        subjects=tuple([*subjects, *peers] if everywhere else subjects),
        figures=LATENCY if everywhere else LATENCY[:-1],
        ratios=_ratios(place),
        plot="percentiles",
        leaves_out="the floor neither parses, decides nor stores. `synced to disk` adds one "
        "fdatasync of 200 bytes before each ACK: the minimum cost of a durable ACK on this disk. "
        "`not synced` is the stack with ORDER_STORE_SYNCHRONOUS=NORMAL: safe against a killed "
        "process, not against a power failure. `orders in memory only` is the stack with "
        "ORDER_STORE_PATH=:memory:, as little durable as the peers; it still checks and keeps "
        "every order in its tables. `minimal Python` uses the same hops and this stack's ring, and "
        "stores and commits one row per order, or nothing. The peers' chains do no work and their "
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
            Subject(IN_MEMORY, partial(ours.orders, stored=False)),
            Subject(zmq, pyzmq_peer.orders),
            Subject(iceoryx, iceoryx2_peer.orders),
        ),
        figures=("round_trip_us_p50", "round_trip_us_p99", "round_trips_per_s"),
        ratios=(
            Ratio("round_trip_us_p50", f"{STACK}, durable", FLOOR_COMMIT),
            Ratio("round_trip_us_p50", IN_MEMORY, FLOOR),
            Ratio("round_trip_us_p50", zmq, FLOOR),
            Ratio("round_trip_us_p50", iceoryx, FLOOR),
        ),
        plot="percentiles",
        leaves_out="only this stack checks, executes and keeps the order.",
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
        subject_s=35,
        leaves_out="`order_to_ack_us_p50` is with dashboard and proof stopped, the next two are "
        "times of it; one of the 50 pages never reads. Core and memory are those of both "
        "processes with one page. The readers of the pages share the cores of the stack.",
        quick=False,
    )
