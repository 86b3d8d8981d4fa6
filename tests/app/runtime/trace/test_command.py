"""``python -m app trace``: the text, JSON, and the file for Perfetto."""

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.__main__ import main
from app.config.settings import Settings
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.trace.chrome import chrome_trace
from app.runtime.trace.layout import ACKED, DUPLICATE, HANDLED, OK, SENT, STAGE_NAMES
from app.runtime.trace.reader import Attempt, OrderTimes
from app.runtime.trace.writer import TraceSegment
from tests.support.children import SHM

LIMIT = settings(max_examples=100, deadline=None, derandomize=True)
ME = b"strategy@12345678"
MS = 1_000_000


@pytest.fixture
def trace(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TraceSegment]:
    monkeypatch.setenv("SHM_METRICS", name)
    monkeypatch.setenv("TRACE_ORDERS", "50")
    chosen = Settings(shm_metrics=name, trace_orders=50, ring_capacity_ticks=1024)
    metrics = ProcessMetrics.open(name, "strategy")
    made = TraceSegment.open(chosen, metrics)
    assert made is not None
    yield made
    metrics.close()
    (SHM / chosen.shm_trace).unlink(missing_ok=True)


def note(trace: TraceSegment, order_id: int, begin_ns: int, *, lost: bool = False) -> None:
    """An order; ``lost``: whose first attempt the order manager did not survive."""
    at = [begin_ns + MS * number for number in range(10)]
    if lost:
        trace.orders.append(SENT, 0, order_id, ME, [0, *at[1:6], 0, 0, 0, 0])
        at = [*at[:5], *(each + 100 * MS for each in at[5:])]
    trace.orders.append(SENT, 0, order_id, ME, [0, *at[1:6], 0, 0, 0, 0])
    trace.orders.append(HANDLED, OK, order_id, ME, [0] * 6 + at[6:9] + [0])
    trace.orders.append(ACKED, OK, order_id, ME, [at[0], 0, 0, 0, 0, at[5], 0, 0, 0, at[9]])


def test_a_waterfall(trace: TraceSegment, capsys: pytest.CaptureFixture[str]) -> None:
    note(trace, 84, 10**12)
    assert main(["trace", "84"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("order id=84 client=strategy@12345678 on tick 83, first seen 2")
    rows = [line.split() for line in lines if "," in line and "gateway" not in line]
    assert "attempt 1 of 1: accepted" in lines
    at = {" ".join(row[:2]): row for row in rows}
    assert at["order sent"][:5] == ["order", "sent", "strategy", "5,000.0", "1,000.0"]
    assert at["ACK received"][3:5] == ["9,000.0", "1,000.0"]
    # Bars follow each other, down and to the right.
    bars = [line.index("█") for line in lines if "█" in line]
    assert len(bars) == len(STAGE_NAMES)
    assert bars == sorted(bars)


def test_two_attempts_and_a_recovery(
    trace: TraceSegment, capsys: pytest.CaptureFixture[str]
) -> None:
    note(trace, 84, 10**12, lost=True)
    later = 2 * 10**12
    trace.repeats.append(SENT, 0, 84, ME, [0, 0, 0, 0, later, later + 1, 0, 0, 0, 0])
    trace.repeats.append(HANDLED, OK | DUPLICATE, 84, ME, [0] * 6 + [later + 2] * 3 + [0])
    assert main(["trace", "84", "--client", "strategy"]) == 0
    text = capsys.readouterr().out
    assert "attempt 1 of 3: no answer\n" in text
    assert "attempt 2 of 3: accepted\n" in text
    assert "attempt 3 of 3: no answer yet, the stored answer, sent by a restarted strategy" in text


def test_json(trace: TraceSegment, capsys: pytest.CaptureFixture[str]) -> None:
    note(trace, 84, 10**12, lost=True)
    assert main(["trace", "84", "--json"]) == 0
    (order,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (order["id"], order["client"], order["tick"]) == (84, ME.decode(), 83)
    first, second = order["attempts"]
    assert (first["ok"], second["ok"]) == (None, True)
    assert second["at_ns"] == {
        name: MS * number + (100 * MS if number > 4 else 0)
        for number, name in enumerate(STAGE_NAMES)
    }


def test_the_latest_orders(trace: TraceSegment, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(1, 6):
        note(trace, number, 10**12 * number)
    assert main(["trace"]) == 0
    assert capsys.readouterr().out.startswith("order id=5 ")
    assert main(["trace", "--last", "2", "--json"]) == 0
    out = capsys.readouterr().out
    assert [json.loads(line)["id"] for line in out.splitlines()] == [4, 5]
    assert main(["trace", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_an_order_on_its_way_is_not_the_latest(
    trace: TraceSegment, capsys: pytest.CaptureFixture[str]
) -> None:
    on_its_way = [0, *range(10**13, 10**13 + 5), 0, 0, 0, 0]
    trace.orders.append(SENT, 0, 6, ME, on_its_way)
    assert main(["trace"]) == 0  # there is no other
    out = capsys.readouterr().out
    assert out.startswith("order id=6 ")
    assert "attempt 1 of 1: no answer yet\n" in out
    note(trace, 5, 10**12)
    assert main(["trace"]) == 0
    assert capsys.readouterr().out.startswith("order id=5 ")
    assert main(["trace", "6"]) == 0
    assert "no answer yet\n" in capsys.readouterr().out
    # An order by hand has only what the order manager notes.
    trace.orders.append(HANDLED, OK, 7, b"desk", [0] * 6 + [10**14] * 3 + [0])
    assert main(["trace"]) == 0
    assert "as the order manager saw it\n" in capsys.readouterr().out


def test_what_is_missing_is_said(trace: TraceSegment, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace"]) == 1
    assert capsys.readouterr().err == "trace: no order yet\n"
    note(trace, 1, 10**12)
    assert main(["trace", "1", "7", "8"]) == 1
    found = capsys.readouterr()
    assert found.err == "trace: no order 7, 8 among the last 50 or so (TRACE_ORDERS)\n"
    assert found.out.startswith("order id=1 ")
    assert main(["trace", "1", "--client", "default"]) == 1
    assert "no order 1 of default" in capsys.readouterr().err
    assert main(["trace", "one"]) == 2


def test_without_a_stack(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHM_METRICS", name)
    assert main(["trace", "1"]) == 1
    assert f"{name}_trace does not exist: nothing runs here" in capsys.readouterr().err


def test_the_file_for_perfetto(
    trace: TraceSegment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note(trace, 1, 10**12)
    note(trace, 2, 10**12 + MS // 2, lost=True)
    path = tmp_path / "orders.json"
    assert main(["trace", "--chrome", str(path)]) == 0
    content = json.loads(path.read_text())
    check(content)
    assert main(["trace", "--chrome", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["traceEvents"] == content["traceEvents"]
    names = {e["name"] for e in content["traceEvents"]}
    assert {"order 1", "order 2", "attempt 1: no answer", "check and commit"} <= names
    # From gateway to orderbook, strategy, order manager and back, for each attempt with an answer.
    arrows = Counter(e["id"] for e in content["traceEvents"] if e["ph"] in "stf")
    assert sorted(arrows.values()) == [3, 5, 5]
    assert main(["trace", "--chrome", str(tmp_path / "no" / "folder")]) == 1


MEMBERS = {
    "X": {"cat", "ts", "dur", "args"},
    "s": {"cat", "ts", "id"},
    "t": {"cat", "ts", "id"},
    "f": {"cat", "ts", "id", "bp"},
    "b": {"cat", "ts", "id", "args"},
    "e": {"cat", "ts", "id"},
    "M": {"args"},
}
"""The members of each phase besides its name, process and thread ("Trace Event Format", 2016)."""


def check_members(event: dict[str, Any]) -> None:
    """Names and types of one event."""
    phase = event["ph"]
    assert event.keys() == {"ph", "name", "pid", "tid"} | MEMBERS[phase], event
    assert isinstance(event["name"], str)
    assert event["name"]
    for name in ("pid", "tid"):
        assert type(event[name]) is int
        assert event[name] >= (name == "pid")
    for name in {"ts", "dur"} & event.keys():
        assert type(event[name]) in (int, float)
        assert 0 <= event[name] < 2**53 / 1000  # exact to the nanosecond in a double
    if "cat" in event:
        assert isinstance(event["cat"], str)
    if phase in "stf":
        # Perfetto drops an arrow whose id is text, though the format allows it.
        assert type(event["id"]) is int
    if phase in "be":
        assert isinstance(event["id"], str)
    if phase == "f":
        assert event["bp"] == "e"  # it binds to the slice around it, not to the next one
    if phase == "M":
        assert event["name"] in ("process_name", "thread_name")
        assert isinstance(event["args"]["name"], str)


def check(content: dict[str, Any]) -> None:
    """What the format asks for; a viewer drops or misplaces what does not comply."""
    assert content["displayTimeUnit"] in ("ms", "ns")
    events = content["traceEvents"]
    for event in events:
        check_members(event)
    slices: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    flows: dict[int, list[dict[str, Any]]] = defaultdict(list)
    open_spans: dict[tuple[str, str], list[str]] = defaultdict(list)
    named = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    assert [e["ts"] for e in events if "ts" in e] == sorted(e["ts"] for e in events if "ts" in e)
    for event in events:
        if event["ph"] == "X":
            slices[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
        elif event["ph"] in "stf":
            flows[event["id"]].append(event)
        elif event["ph"] in "be":
            spans = open_spans[event["cat"], event["id"]]
            spans.append(event["name"]) if event["ph"] == "b" else spans.remove(event["name"])
    assert not any(open_spans.values())
    assert slices.keys() == named
    for track in slices.values():
        track.sort()
        for (_, end), (begin, _) in itertools.pairwise(track):
            assert end <= begin + 1e-3
    for arrow in flows.values():
        assert len({(e["cat"], e["name"]) for e in arrow}) == 1
        assert "".join(e["ph"] for e in arrow) == "s" + "t" * (len(arrow) - 2) + "f"
        for event in arrow:
            track = slices[event["pid"], event["tid"]]
            assert event["ts"] in [begin for begin, _ in track]


orders = st.builds(
    lambda client, number, begin, steps, lost: OrderTimes(
        client,
        number,
        [
            Attempt(
                {
                    name: begin + sum(steps[: at + 1])
                    for at, name in enumerate(STAGE_NAMES)
                    if at not in lost
                }
            )
        ],
    ),
    st.sampled_from(["a@1", "b@2"]),
    st.integers(0, 10**6),
    st.integers(1, 10**6),
    st.lists(st.integers(0, 10**5), min_size=10, max_size=10),
    st.sets(st.integers(0, 9), max_size=9),
)


@LIMIT
@given(st.lists(orders, max_size=12, unique_by=lambda order: (order.client, order.id)))
def test_any_orders_at_once_comply_with_the_format(found: list[OrderTimes]) -> None:
    check(json.loads(json.dumps(chrome_trace(found))))
