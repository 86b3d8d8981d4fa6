"""The rings of the trace; each test runs on the compiled and on the plain kernel."""

import json
import select
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.kernel import _kernel
from app.kernel.plain import kernel as plain_kernel
from app.model.orders import FILLED, Order
from app.model.tick import TICK_DTYPE
from app.model.wire.order_answers import encode_ack
from app.order_manager.counts import Counts
from app.runtime.trace.reader import whole_records
from tests.support.children import SHM, Spawn
from tests.support.kernel.helpers import (
    BOTH,
    SYMBOLS,
    book_image,
    feed,
    padded,
    refused,
    ring_image,
)

LIMIT = settings(max_examples=150, deadline=None, derandomize=True)
RECORDS = 6
HEAD_BYTES, RECORD_BYTES = 64, 192


@BOTH
def kernel(request: pytest.FixtureRequest) -> Any:
    return request.param


def ring(records: int = RECORDS) -> bytearray:
    return bytearray(HEAD_BYTES + records * RECORD_BYTES)


def times(kernel: Any, batches: int = 8) -> Any:
    return kernel.BatchTimes(bytearray(64 + 32 * batches))


def read(memory: bytes | bytearray) -> list[dict[str, Any]]:
    """The whole records, oldest first."""
    found, torn = whole_records(bytes(memory[HEAD_BYTES:]))
    assert not torn
    found = found[np.argsort(found["stamp"])]
    names = ("id", "kind", "flags", "client", "stage_ns")
    return [dict(zip(names, (row[n].tolist() for n in names), strict=True)) for row in found]


def intents(*ticks: tuple[int, int]) -> list[Any]:
    """Intents of ticks ``(seq, recv_ns)``."""
    batch = np.zeros(len(ticks), TICK_DTYPE)
    batch["seq"] = [seq for seq, _ in ticks]
    batch["recv_us"] = [recv_ns // 1000 % 2**32 for _, recv_ns in ticks]
    flat, busy = np.zeros(1, np.int8), np.zeros(1, np.uint8)
    gate = _kernel.OrderGate(flat, busy, ["A"], True, len(ticks))
    return gate.intents(batch, np.ones(len(ticks), np.int8), 0)[0]


class TestBatches:
    def test_the_latest_that_has_the_tick_and_is_not_too_late(self, kernel: Any) -> None:
        batches = times(kernel)
        batches.note(0, 5, 100, 110)
        batches.note(5, 9, 200, 210)
        batches.note(3, 9, 300, 310)  # a client that reads again
        assert batches.find(4, 99) is None
        assert batches.find(4, 100) == (100, 110)
        assert batches.find(4, 299) == (100, 110)
        assert batches.find(4, 300) == (300, 310)
        assert batches.find(8, 250) == (200, 210)
        assert batches.find(9, 999) is None

    def test_overwritten_ones_are_not_found(self, kernel: Any) -> None:
        batches = times(kernel, 4)
        for seq in range(10):
            batches.note(seq, seq + 1, 100 * seq)
        # The oldest place is the next to be written.
        assert [batches.find(seq, 10_000) is not None for seq in range(5, 11)] == [
            False, False, True, True, True, False,
        ]  # fmt: skip

    def test_too_little_memory_is_refused(self, kernel: Any) -> None:
        with refused():
            kernel.BatchTimes(bytearray(64 + 32))
        with refused():
            kernel.OrderTrace(bytearray(64))

    def test_the_writer_of_ticks_notes_each_burst_before_it_is_seen(self, kernel: Any) -> None:
        memory = ring_image(64)
        writer = kernel.TickWriter(memory, book_image(SYMBOLS), kernel.FieldParser(SYMBOLS))
        batches = times(kernel)
        writer.note_times(batches)
        data = feed(*[1.5] * 20)
        begin_ns = time.monotonic_ns()
        writer.push(padded(data), 0, len(data), 77)
        end_ns = time.monotonic_ns()
        bursts = [batches.find(seq, 77) for seq in range(20)]
        assert {received for received, _ in bursts} == {77}
        published = [at for _, at in bursts]
        # A burst is a quarter of the ring.
        assert len(set(published)) == 2
        assert published == sorted(published)
        assert begin_ns <= published[0] <= published[-1] <= end_ns
        assert batches.find(20, 77) is None
        writer.push(padded(b""), 0, 0, 78)
        assert batches.find(19, 78) == bursts[19]


class TestOrders:
    def test_sent(self, kernel: Any) -> None:
        memory, now_ns = ring(), 5_000_000_000_123
        gateway, orderbook = times(kernel), times(kernel)
        gateway.note(10, 12, now_ns - 90_000)
        orderbook.note(10, 11, now_ns - 50_000, now_ns - 40_000)
        orderbook.note(11, 13, now_ns - 30_000, now_ns - 20_000)
        group = intents((10, now_ns - 50_000), (11, now_ns - 30_000), (99, now_ns - 1_000))
        orders = [(intent.seq + 1, b"frame") for intent in group]
        trace = kernel.OrderTrace(memory)
        trace.sent(b"me", orders, group, 0, now_ns - 9, now_ns, gateway, orderbook)
        first, second, third = read(memory)
        assert first == {
            "id": 11, "kind": _kernel.TRACE_SENT, "flags": 0, "client": b"me",
            "stage_ns": [0, now_ns - 90_000, now_ns - 50_000, now_ns - 40_000, now_ns - 9, now_ns,
                         0, 0, 0, 0],
        }  # fmt: skip
        assert second["stage_ns"][1:4] == [now_ns - 90_000, now_ns - 30_000, now_ns - 20_000]
        # Unknown to gateway and orderbook: the microseconds in the tick's record.
        assert third["stage_ns"][1:4] == [0, (now_ns - 1_000) // 1000 * 1000, 0]

    def test_sent_again_from_the_second_on_and_in_a_recovery(self, kernel: Any) -> None:
        memory = ring()
        group = intents((10, 1_000), (11, 1_000))
        orders = [(11,), (12,)]
        trace = kernel.OrderTrace(memory)
        trace.sent(b"me", orders, group, 1, 8_000, 9_000, None, None)
        trace.sent(b"me", orders, group, 2, 8_000, 9_000, None, None)
        (only,) = read(memory)
        assert (only["id"], only["stage_ns"]) == (12, [0, 0, 0, 0, 8_000, 9_000, 0, 0, 0, 0])
        with refused():
            trace.sent(b"me", orders, group[:1], 0, 8_000, 9_000, None, None)

    def test_the_receipt_of_a_tick_survives_the_wrap_of_its_microseconds(self, kernel: Any) -> None:
        memory = ring()
        wrap_ns = 2**32 * 1000
        trace, orderbook = kernel.OrderTrace(memory), times(kernel)
        group = intents((10, wrap_ns - 5_000))
        trace.sent(b"me", [(11,)], group, 0, wrap_ns, wrap_ns + 7_000, None, orderbook)
        assert read(memory)[0]["stage_ns"][2] == wrap_ns - 5_000

    def test_acked(self, kernel: Any) -> None:
        memory = ring()
        yes = SimpleNamespace(ok=True, duplicate=True)
        no = SimpleNamespace(ok=False, duplicate=False)
        kernel.OrderTrace(memory).acked(b"me", [(1,), (2,)], [yes, no], [70, 0], [80, 81], 90)
        first, second = read(memory)
        assert first["flags"] == _kernel.TRACE_OK | _kernel.TRACE_DUPLICATE
        assert first["stage_ns"] == [70, 0, 0, 0, 0, 80, 0, 0, 0, 90]
        assert (second["flags"], second["stage_ns"][5]) == (0, 81)
        with refused():
            kernel.OrderTrace(memory).acked(b"me", [(1,)], [yes], [], [80], 90)

    def test_a_long_client_is_refused(self, kernel: Any) -> None:
        trace = kernel.OrderTrace(ring())
        trace.append(1, 0, 5, b"c" * 64, range(10))
        with refused():
            trace.append(1, 0, 5, b"c" * 65, range(10))

    def test_the_ring_keeps_the_latest(self, kernel: Any) -> None:
        memory = ring()
        trace = kernel.OrderTrace(memory)
        for number in range(2 * RECORDS + 1):
            trace.append(1, 0, number, b"c", range(10))
        assert [each["id"] for each in read(memory)] == [7, 8, 9, 10, 11, 12]


def answer(order_id: int, client: str, *, code: int = 0, duplicate: bool = False) -> bytes:
    order = Order(
        order_no=7, client_no=1, id=order_id, at_ns=0, side=1, symbol="A", qty=1, price=10**9,
        type=0, tif=0, ts='"x"', status=FILLED, filled_qty=1, filled_notional=10**9, code=code,
        msg='no: "order":{"id":99,"client":"other"' if code else None,
    )  # fmt: skip
    return encode_ack(order, client, duplicate)


class TestHandled:
    def test_accepted_denied_and_repeated(self, kernel: Any) -> None:
        memory, again = ring(), ring()
        session = SimpleNamespace(last_ns=50)
        frames = [
            answer(1, "me"),
            answer(2, "me", code=201),
            answer(3, "me", duplicate=True),
            answer(4, "me", code=201, duplicate=True),
            b'{"ok":true}*',
            b'{"ok":false,"msg":"bad_json","code":"BAD_JSON","retryable":false,"id":5}*',
            b'{"ok":true,"orders":[' + answer(6, "me")[19:-2] + b"]}*",
        ]
        kernel.OrderTrace(memory).handled(
            [(session, frame) for frame in frames], None, 60, 70, kernel.OrderTrace(again)
        )
        assert [(each["id"], each["flags"]) for each in read(memory)] == [(1, 1), (2, 0)]
        assert [(each["id"], each["flags"]) for each in read(again)] == [(3, 3), (4, 2)]
        assert read(memory)[0]["stage_ns"] == [0, 0, 0, 0, 0, 0, 50, 60, 70, 0]
        assert {each["client"] for each in read(memory) + read(again)} == {b"me"}

    def test_only_some(self, kernel: Any) -> None:
        memory = ring()
        session = SimpleNamespace(last_ns=50)
        frames = [(session, answer(order_id, "me")) for order_id in (1, 2, 3)]
        kernel.OrderTrace(memory).handled(frames, {1, 3}, 60, 70, kernel.OrderTrace(ring()))
        assert [each["id"] for each in read(memory)] == [1, 3]


class TestNotes:
    """What the order manager notes with one call."""

    def noted(
        self, kernel: Any, counts: Counts, frames: list[bytes], ids: list[int]
    ) -> list[dict[str, Any]]:
        memory, session = ring(), SimpleNamespace(last_ns=50)
        orders, repeats = kernel.OrderTrace(memory), kernel.OrderTrace(ring())
        answers = [(session, frame) for frame in frames]
        events: list[Any] = [("Filled", SimpleNamespace(id=each), "me") for each in ids]
        begin_ns = time.monotonic_ns()
        kernel.AnswerNotes(orders, repeats).note(answers, counts, [*events, "a note"])
        found = read(memory)
        for each in found:
            assert begin_ns <= each["stage_ns"][8] <= time.monotonic_ns()
        return found

    def test_a_batch_of_orders(self, kernel: Any) -> None:
        counts = Counts()
        counts.orders_acked, counts.orders_duplicate, counts.committed_ns = 1, 1, 60
        frames = [answer(1, "me"), answer(2, "me", duplicate=True)]
        (only,) = self.noted(kernel, counts, frames, [])
        assert (only["id"], only["stage_ns"][6:8]) == (1, [50, 60])

    def test_what_only_looks_like_an_order_is_left_out(self, kernel: Any) -> None:
        counts = Counts()
        counts.orders_acked = 1
        found = self.noted(kernel, counts, [answer(1, "me"), answer(2, "me")], [1])
        assert [each["id"] for each in found] == [1]
        # Nothing was to be committed.
        assert found[0]["stage_ns"][7] == found[0]["stage_ns"][8]


# ---- The same bytes from both

names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=16)
frames = st.builds(
    answer,
    st.integers(0, 2**53 - 1),
    names,
    code=st.sampled_from([0, 201]),
    duplicate=st.booleans(),
)


@LIMIT
@given(st.lists(frames, max_size=12), st.integers(0, 2**62), st.booleans())
def test_any_answer_is_read_as_json_reads_it(
    answers: list[bytes], last_ns: int, filtered: bool
) -> None:
    memories = []
    only = {json.loads(frame[:-1])["order"]["id"] for frame in answers[::2]} if filtered else None
    for kernel in (_kernel, plain_kernel):
        memory, again = ring(), ring()
        session = SimpleNamespace(last_ns=last_ns)
        kernel.OrderTrace(memory).handled(
            [(session, frame) for frame in answers], only, 1, 2, kernel.OrderTrace(again)
        )
        memories.append((memory, again))
    assert memories[0] == memories[1]


steps = st.tuples(st.integers(0, 40), st.integers(1, 5), st.integers(0, 9))


@LIMIT
@given(st.lists(steps, max_size=30), st.integers(2, 9), st.integers(0, 45), st.integers(0, 200))
def test_any_search_of_batches(
    notes: list[tuple[int, int, int]], capacity: int, seq: int, limit_ns: int
) -> None:
    compiled, plain = times(_kernel, capacity), times(plain_kernel, capacity)
    at_ns = 0
    for first, length, later in notes:
        at_ns += later
        for each in (compiled, plain):
            each.note(first, first + length, at_ns, at_ns + 1)
    assert compiled.find(seq, limit_ns) == plain.find(seq, limit_ns)


WRITER = """
    import mmap, sys
    from app.kernel.plain.kernel import OrderTrace
    with open(sys.argv[1], "r+b") as file:
        trace = OrderTrace(memoryview(mmap.mmap(file.fileno(), 0)))
    print("up", flush=True)
    for line in sys.stdin:
        if line == "hold\\n":
            with trace._turns.turn():
                print("holding", flush=True)
                sys.stdin.readline()
        else:
            trace.append(1, 0, int(line), b"c", range(10))
        print("done", flush=True)
"""


@pytest.mark.medium
@pytest.mark.parametrize("killed", [False, True])
def test_plain_processes_take_turns(name: str, spawn: Spawn, killed: bool) -> None:
    """Python has no atomic addition; a process that is killed in its turn keeps nobody waiting."""
    path = SHM / name
    path.write_bytes(bytes(ring()))
    first, second = spawn(WRITER, path), spawn(WRITER, path)
    assert (first.line(), second.line()) == ("up", "up")
    assert first.ask("hold") == "holding"
    second.tell("7")
    assert second.process.stdout is not None
    assert not select.select([second.process.stdout], [], [], 0.3)[0], "it did not wait"
    if killed:
        first.kill()
    else:
        assert first.ask() == "done"
    assert second.line() == "done"
    assert [each["id"] for each in read(path.read_bytes())] == [7]
