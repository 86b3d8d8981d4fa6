"""Orders in the Trace Event Format, which Perfetto (ui.perfetto.dev) and chrome://tracing open.

Each process of the stack has a group of tracks with a slice for each step of an order, arrows lead
from process to process, and an asynchronous track has each order from its first time to its last.
Slices of one track must not overlap, so orders that are under way together get tracks of their own.

Format: "Trace Event Format", Google, 2016.  An arrow binds to the slice that encloses its time, and
the end of a slice does not count: so each arrow passes at the beginning of one.  Perfetto drops an
arrow whose id is no number.
"""

import heapq
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from app.runtime.trace.reader import Attempt, OrderTimes
from app.runtime.trace.waterfall import outcome, utc_of

GATEWAY, ORDERBOOK, ORDER_MANAGER, FIRST_STRATEGY = 1, 2, 3, 4
"""Process ids in the file."""
PROCESS_NAMES: Final = {1: "gateway", 2: "orderbook", 3: "order_manager"}

STEPS: Final = (
    (GATEWAY, "wait for the turn", "due", "tick_sent"),
    (GATEWAY, "send", "tick_sent", "tick_received"),
    (ORDERBOOK, "parse and publish", "tick_received", "published"),
    (FIRST_STRATEGY, "decide", "published", "decided"),
    (FIRST_STRATEGY, "encode", "decided", "order_sent"),
    (FIRST_STRATEGY, "wait for the ACK", "order_sent", "ack_received"),
    (FIRST_STRATEGY, "take the ACK", "ack_received", "ack_received"),
    (ORDER_MANAGER, "check and commit", "order_received", "committed"),
    (ORDER_MANAGER, "answer", "committed", "ack_sent"),
)
"""Process, name, first and last stage of each slice; of one stage: :data:`SHORT_NS` long."""
SHORT_NS: Final = 1000
ARROWS: Final = (
    (GATEWAY, "tick_sent"),
    (ORDERBOOK, "tick_received"),
    (FIRST_STRATEGY, "published"),
    (ORDER_MANAGER, "order_received"),
    (FIRST_STRATEGY, "ack_received"),
)
"""Where the arrow of an attempt passes."""

Event = dict[str, Any]


class _Span(NamedTuple):
    """The slices of one attempt in one process."""

    begin_ns: int
    end_ns: int
    pid: int
    key: str
    slices: list[tuple[str, int, int]]
    arguments: dict[str, Any]


def chrome_trace(orders: Sequence[OrderTimes]) -> dict[str, Any]:
    """The content of a JSON file; times are microseconds since the earliest."""
    origin = min((order.begin_ns for order in orders), default=0)
    clients = sorted({order.client for order in orders if order.tick is not None})
    pids = {client: FIRST_STRATEGY + number for number, client in enumerate(clients)}
    names = PROCESS_NAMES | {pid: f"strategy {client}" for client, pid in pids.items()}
    spans, events = [], []
    for order in orders:
        own_pid = pids.get(order.client, ORDER_MANAGER)
        events += _life(order, own_pid)
        for number, attempt in enumerate(order.attempts, 1):
            spans += _spans(order, number, attempt, own_pid)
    lanes = _lanes(spans)
    for span in spans:
        events += _slices(span, lanes[span.key, span.pid])
    arrow_ids = itertools.count(1)
    for order in orders:
        own_pid = pids.get(order.client, ORDER_MANAGER)
        for number, attempt in enumerate(order.attempts, 1):
            passes = _passes(attempt, own_pid)
            tracks = [(pid, lanes[_key(order, number), pid], at) for pid, at in passes]
            events += _arrow(next(arrow_ids), tracks)
    for event in events:
        event["ts"] = (event["ts"] - origin) / 1000
    events.sort(key=lambda event: event["ts"])
    named = sorted({(span.pid, lanes[span.key, span.pid]) for span in spans})
    head = [*_named("process", ((pid, 0, names[pid]) for pid in sorted(names)))]
    head += _named("thread", ((pid, lane, "orders") for pid, lane in named))
    return {
        "traceEvents": head + events,
        "displayTimeUnit": "ns",
        "otherData": {"begin": utc_of(origin)} if orders else {},
    }


def _named(kind: str, names: Iterable[tuple[int, int, str]]) -> list[Event]:
    return [
        {"ph": "M", "name": f"{kind}_name", "pid": pid, "tid": tid, "args": {"name": name}}
        for pid, tid, name in names
    ]


def _key(order: OrderTimes, number: int) -> str:
    return f"{order.client}/{order.id}/{number}"


def _pid(pid: int, own_pid: int) -> int:
    return own_pid if pid == FIRST_STRATEGY else pid


def _spans(order: OrderTimes, number: int, attempt: Attempt, own_pid: int) -> list[_Span]:
    by_pid: dict[int, list[tuple[str, int, int]]] = {}
    at = attempt.stage_ns
    for pid, name, first, last in STEPS:
        if first in at and last in at:
            end_ns = at[last] if last != first else at[first] + SHORT_NS
            by_pid.setdefault(_pid(pid, own_pid), []).append((name, at[first], end_ns))
    said = {"id": order.id, "client": order.client, "attempt": number}
    said["outcome"] = outcome(attempt)
    return [
        _Span(slices[0][1], slices[-1][2], pid, _key(order, number), slices, said)
        for pid, slices in by_pid.items()
    ]


def _lanes(spans: list[_Span]) -> dict[tuple[str, int], int]:
    """For each attempt and process the number of a track on which nothing overlaps."""
    lanes: dict[tuple[str, int], int] = {}
    free: dict[int, list[tuple[int, int]]] = {}
    """Of each process: a heap of when a track gets free, and its number."""
    for span in sorted(spans):
        tracks = free.setdefault(span.pid, [])
        # Strictly earlier: a slice that begins where another ends would enclose its arrow.
        if tracks and tracks[0][0] < span.begin_ns:
            _, lane = heapq.heappop(tracks)
        else:
            lane = len(tracks) + 1
        heapq.heappush(tracks, (span.end_ns, lane))
        lanes[span.key, span.pid] = lane
    return lanes


def _slices(span: _Span, lane: int) -> list[Event]:
    return [
        {
            "ph": "X",
            "cat": "step",
            "name": name,
            "pid": span.pid,
            "tid": lane,
            "ts": begin,
            "dur": (end - begin) / 1000,
            "args": span.arguments,
        }
        for name, begin, end in span.slices
    ]


def _passes(attempt: Attempt, own_pid: int) -> list[tuple[int, int]]:
    """Process and time of each place that the arrow of an attempt passes."""
    at = attempt.stage_ns
    begins = {(pid, first) for pid, _, first, last in STEPS if first in at and last in at}
    return [(_pid(pid, own_pid), at[stage]) for pid, stage in ARROWS if (pid, stage) in begins]


def _arrow(number: int, passes: list[tuple[int, int, int]]) -> list[Event]:
    """``passes``: process, track and time."""
    if len(passes) < 2:
        return []
    same = {"cat": "order", "name": "order", "id": number}
    phases = ["s", *"t" * (len(passes) - 2), "f"]
    return [
        {"ph": phase, "pid": pid, "tid": track, "ts": at, **same}
        | ({"bp": "e"} if phase == "f" else {})
        for phase, (pid, track, at) in zip(phases, passes, strict=True)
    ]


def _life(order: OrderTimes, pid: int) -> list[Event]:
    """The order, and in it its attempts, on an asynchronous track."""
    key = f"{order.client}/{order.id}"
    ends = [max(attempt.stage_ns.values()) for attempt in order.attempts]
    said = {"id": order.id, "client": order.client, "tick": order.tick}
    parts = [(f"order {order.id}", order.begin_ns, max(ends), said)]
    for number, (attempt, end) in enumerate(zip(order.attempts, ends, strict=True), 1):
        # Of later attempts the tick's stages belong to the first.
        begin = attempt.stage_ns.get("order_sent") if number > 1 else None
        begin = min(attempt.stage_ns.values()) if begin is None else begin
        parts.append((f"attempt {number}: {outcome(attempt)}", begin, end, said))
    same = {"cat": "order", "id": key, "pid": pid, "tid": 0}
    events = []
    for name, begin, end, arguments in parts:
        events.append({"ph": "b", "name": name, "ts": begin, "args": arguments, **same})
        events.append({"ph": "e", "name": name, "ts": end, **same})
    return events
