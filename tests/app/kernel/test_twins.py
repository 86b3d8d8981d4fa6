"""Compiled and plain kernel get the same random input and must return the same, to the last byte.

Each is the other's oracle: they share no code.
"""

import struct
from random import Random
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.kernel import _kernel
from app.kernel.plain import kernel as plain_kernel
from app.model.tick import TICK_DTYPE
from tests.support.kernel.helpers import (
    LATEST,
    LOSSLESS,
    SYMBOLS,
    book_image,
    needs_compiled,
    padded,
    reference_signals,
    ring_image,
)

pytestmark = needs_compiled

LIMIT = settings(max_examples=150, deadline=None, derandomize=True)

timestamps = st.builds(
    "{:04d}-{:02d}-{:02d}{}{:02d}:{:02d}:{:02d}{}{}".format,
    st.sampled_from([1970, 2000, 2024, 2025, 2100, 2261]),
    st.integers(1, 12),
    st.integers(1, 31),
    st.sampled_from(" T"),
    st.integers(0, 23),
    st.integers(0, 59),
    st.integers(0, 59),
    st.sampled_from(["", ".5", ".123", ".000000001", ".999999999"]),
    st.sampled_from(["", "Z"]),
).map(str.encode)
seconds = st.integers(0, 60).map(lambda second: b"2025-10-01 09:30:%02d" % second)
"""Most feeds repeat the minute, and the parser has a faster path for that."""
prices = st.one_of(
    st.decimals("0.000000001", "9000000000", places=9).map(lambda d: f"{d:f}".encode()),
    st.floats(1e-9, 9e9).map(lambda f: repr(f).encode()),
    st.integers(1, 100_000).map(lambda n: b"%d.%02d" % divmod(n, 100)),
    st.text("0123456789.", min_size=1, max_size=18).map(str.encode),
)
ticks = st.builds(
    lambda *fields: b"".join(field + b"*" for field in fields),
    st.one_of(timestamps, seconds, seconds),
    st.sampled_from(SYMBOLS).map(str.encode),
    prices,
)
scraps = st.one_of(
    ticks,
    ticks,
    ticks,
    st.sampled_from([b"SEQ|7*", b"END|3*", b"*", b"**", b"2025-10-01 09:30:00*", b"A*", b"1*"]),
    st.text("0123456789-:. TZ*|ASEe+\0", max_size=12).map(str.encode),
    st.binary(max_size=6),
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Ticks with marks and garbage between them, sometimes with a changed byte."""
    times = st.sampled_from([1, 1, 1, 2, 31, 33])
    data = bytearray(b"".join(scrap * draw(times) for scrap in draw(st.lists(scraps, max_size=12))))
    for _ in range(draw(st.integers(0, 2))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@st.composite
def cut(draw: st.DrawFn, of: st.SearchStrategy[bytes]) -> tuple[bytes, list[int]]:
    """Data and the positions at which it is split into pieces."""
    data = draw(of)
    return data, sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))


class Stop(NamedTuple):
    """Why the parser stopped, and where in the whole stream."""

    at: int
    why: int


def run_parser(
    kernel: Any, data: bytes, cuts: list[int], room: int
) -> tuple[list[Any], list[Stop]]:
    """Every tick, and every stop except NEED_MORE and FULL; skips one byte after an error."""
    parser = kernel.FieldParser(SYMBOLS)
    out = np.zeros(room, TICK_DTYPE)
    seen: list[Any] = []
    stops: list[Stop] = []
    begin = 0
    for end in [*cuts, len(data)]:
        while True:
            piece = data[begin:end]
            count, position, why = kernel.parse_ticks(
                parser, padded(piece), 0, len(piece), out, len(seen)
            )
            seen += out[:count].tolist()
            begin += position
            if why == _kernel.NEED_MORE:
                break
            if why != _kernel.FULL:
                stops.append(Stop(begin, why))
                begin += 1
    return seen, [*stops, Stop(begin, _kernel.NEED_MORE)]


class TestParser:
    """Ticks, stops and positions."""

    @LIMIT
    @given(cut(streams()), st.integers(1, 5))
    def test_any_split_gives_the_same_on_both(
        self, pieces: tuple[bytes, list[int]], room: int
    ) -> None:
        data, cuts = pieces
        whole = run_parser(plain_kernel, data, [], 500)
        assert run_parser(_kernel, data, [], 64) == whole
        assert run_parser(_kernel, data, cuts, room) == whole
        assert run_parser(plain_kernel, data, cuts, room) == whole

    @LIMIT
    @given(ticks, ticks)
    def test_split_at_every_byte(self, first: bytes, second: bytes) -> None:
        whole = run_parser(plain_kernel, first + second, [], 64)
        for at in range(len(first) + len(second) + 1):
            assert run_parser(_kernel, first + second, [at], 64) == whole

    @LIMIT
    @given(st.text("0123456789.eE+-xnaifINF \0", min_size=1, max_size=24))
    def test_any_price_text(self, text: str) -> None:
        data = b"2025-10-01 09:30:00*A*" + text.encode() + b"*"
        assert run_parser(_kernel, data, [], 4) == run_parser(plain_kernel, data, [], 4)

    @LIMIT
    @given(st.text("0123456789-:. TZtz+", min_size=15, max_size=32))
    def test_any_timestamp_text(self, text: str) -> None:
        data = text.encode() + b"*A*1*"
        assert run_parser(_kernel, data, [], 4) == run_parser(plain_kernel, data, [], 4)


RING_TICKS = 16
push = st.tuples(st.just("push"), st.integers(0, 24))
take = st.tuples(st.just("take"), st.tuples(st.integers(0, 2), st.integers(1, 20)))
join = st.tuples(st.just("join"), st.tuples(st.integers(0, 2), st.sampled_from([LOSSLESS, LATEST])))
leave = st.tuples(st.just("leave"), st.integers(0, 2))
skip = st.tuples(st.just("skip"), st.integers(1, 3))
take_over = st.tuples(st.just("take_over"), st.just(0))
RING_ACTIONS = st.lists(
    st.one_of(push, push, take, take, join, leave, skip, take_over), max_size=40
)


class Run:
    """A ring, its writer and up to three readers; records every returned value."""

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.ring, self.book = kernel, ring_image(RING_TICKS), book_image(SYMBOLS)
        self.readers: dict[int, tuple[int, Any]] = {}
        self.returned: list[Any] = []
        self.sent = 0
        self.pending = b""
        self.take_over(0)

    def take_over(self, _: int) -> None:
        """Start a writer, the first or a successor."""
        parser = self.kernel.FieldParser(SYMBOLS)
        self.writer = self.kernel.TickWriter(self.ring, self.book, parser)

    def push(self, count: int) -> None:
        """``count`` more ticks arrive; as many as fit are written."""
        for _ in range(count):
            symbol = SYMBOLS[self.sent * 7 % len(SYMBOLS)]
            self.pending += f"2025-10-01 09:30:00*{symbol}*{self.sent + 1}*".encode()
            self.sent += 1
        answer = self.writer.push(padded(self.pending), 0, len(self.pending), self.sent * 1000)
        self.pending = self.pending[answer[1] :]
        self.writer.wait_space(0)
        self.returned.append((answer, self.writer.lag(), self.writer.state))

    def join(self, reader: tuple[int, int]) -> None:
        """Register a reader, starting where TickRing.register starts it."""
        slot, policy = reader
        if slot not in self.readers:
            published = self.writer.state[0]
            cursor = published if published > RING_TICKS // 2 else 0
            self.writer.set_reader(slot, policy, cursor, f"reader-{slot}")
            self.readers[slot] = policy, self.kernel.TickReader(self.ring, slot)

    def leave(self, slot: int) -> None:
        """Free the slot."""
        if self.readers.pop(slot, None):
            self.writer.set_reader(slot, 0)

    def skip(self, count: int) -> None:
        """The source skips sequence numbers."""
        self.writer.set_next_seq(self.writer.state[1] + count)

    def take(self, request: tuple[int, int]) -> None:
        """One reader reads up to ``most`` ticks and consumes them."""
        slot, most = request
        _, reader = self.readers.get(slot, (0, None))
        if reader is None:
            return
        out = np.zeros(most, TICK_DTYPE)
        count = reader.copy(out)
        told = out[:count].tolist()
        self.returned += (reader.last_seq, reader.next_seq())
        reader.advance(count)
        self.returned.append((told, reader.position, reader.lost, reader.available()))
        self.returned.append(self.writer.reader(slot))

    def visible(self) -> tuple[Any, ...]:
        """Every byte that a reader may read."""
        published, claimed = struct.unpack_from("<QQ", self.ring, 64)
        records = np.frombuffer(self.ring, TICK_DTYPE, offset=8192).tolist()
        oldest = max(0, claimed - RING_TICKS)
        kept = [records[position % RING_TICKS] for position in range(oldest, published)]
        header = bytes(self.ring[:128]) + bytes(self.ring[256:8192])
        return header, kept, bytes(self.book)


class TestRing:
    """The same actions of writer and readers leave the same bytes."""

    @LIMIT
    @given(RING_ACTIONS)
    def test_the_same_on_both(self, actions: list[tuple[str, Any]]) -> None:
        compiled, plain = Run(_kernel), Run(plain_kernel)
        for name, argument in actions:
            getattr(compiled, name)(argument)
            getattr(plain, name)(argument)
            assert compiled.returned == plain.returned
            assert compiled.visible() == plain.visible()

    @LIMIT
    @given(RING_ACTIONS)
    def test_no_tick_is_out_of_order_or_lost_without_being_counted(
        self, actions: list[tuple[str, Any]]
    ) -> None:
        run = Run(_kernel)
        consumed: dict[int, list[float]] = {}
        for name, argument in actions:
            before = len(run.returned)
            getattr(run, name)(argument)
            if name == "join":
                policy, reader = run.readers[argument[0]]
                consumed.setdefault(argument[0], [])
                if reader.position != len(consumed[argument[0]]):
                    consumed[argument[0]] = list(range(1, reader.position + 1))
            if name == "leave":
                consumed.pop(argument, None)
            if name == "take" and argument[0] in run.readers:
                policy, reader = run.readers[argument[0]]
                rows, position, _, _ = run.returned[-2]
                assert len(run.returned) > before
                prices = [row[1] for row in rows]
                assert prices == list(range(position - len(rows) + 1, position + 1))
                if policy == LOSSLESS:
                    consumed[argument[0]] += prices
                    assert consumed[argument[0]] == list(range(1, position + 1))


tick_rows = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 3), st.sampled_from([0.1, 0.2, 0.3, 9e9, 1e-9])),
    max_size=60,
)


INTENT = (
    "seq", "event_ns", "symbol_index", "symbol", "signal", "target", "price", "recv_us", "order_id",
)  # fmt: skip


def batch(rows: list[tuple[int, int, float]]) -> Any:
    """Ticks in event order."""
    made = np.zeros(len(rows), TICK_DTYPE)
    for i, (event_ns, symbol, value) in enumerate(sorted(rows, key=lambda row: row[0])):
        made[i] = (event_ns, value, i, 0, symbol, event_ns)
    return made


class TestBatchLoops:
    """Joins, averages, gates and counts."""

    @LIMIT
    @given(tick_rows, tick_rows, st.integers(0, 60), st.randoms(use_true_random=False))
    def test_join(
        self,
        rows: list[tuple[int, int, float]],
        events: list[tuple[int, int, float]],
        at: int,
        random: Random,
    ) -> None:
        batches, told = batch(rows), batch([(t, s, v * 100 % 101) for t, s, v in events])
        told["seq"] = sorted(random.choices(range(len(rows) + 1), k=len(told)))
        answers = []
        for kernel in (_kernel, plain_kernel):
            latest, out = np.full(4, -1, np.int16), np.zeros(60, np.int16)
            position = kernel.join_sentiment(batches[:at], told, 0, latest, out)
            position = kernel.join_sentiment(batches[at:], told, position, latest, out[at:])
            answers.append((position, latest.tolist(), out.tolist()))
        assert answers[0] == answers[1]
        for tick, got in zip(batches, answers[0][2], strict=False):
            ok = (told["symbol"] == tick["symbol"]) & (told["event_ns"] <= tick["event_ns"])
            ok &= told["seq"] <= tick["seq"]
            assert got == (int(told["price"][ok][-1]) if ok.any() else -1)

    @LIMIT
    @given(tick_rows, st.integers(1, 4), st.integers(1, 5), st.integers(0, 60))
    def test_averages(
        self, rows: list[tuple[int, int, float]], short: int, more: int, at: int
    ) -> None:
        made = batch(rows)
        outs = []
        for kernel in (_kernel, plain_kernel):
            averages, out = kernel.CrossAverage(4, short, short + more), np.zeros(60, np.int8)
            averages.signals(made[:at], out)
            averages.signals(made[at:], out[at:])
            outs.append(out.tolist())
        assert outs[0] == outs[1]
        assert reference_signals(made, short, short + more) == outs[0][: len(made)]

    @LIMIT
    @given(
        st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 2)), max_size=30),
        st.booleans(),
        st.integers(1, 8),
    )
    def test_gate(self, rows: list[tuple[int, int]], every: bool, room: int) -> None:
        made = batch([(i, symbol, 1.0) for i, (_, symbol) in enumerate(rows)])
        signals = np.array([signal for signal, _ in rows], np.int8)
        answers = []
        for kernel in (_kernel, plain_kernel):
            position, busy = np.zeros(3, np.int8), np.zeros(3, np.uint8)
            gate = kernel.OrderGate(position, busy, ["A", "B", "C"], every, room)
            at, told = 0, []
            while at < len(rows):
                intents, at = gate.intents(made, signals, at)
                orders = [tuple(getattr(intent, name) for name in INTENT) for intent in intents]
                told.append((orders, at, position.tolist(), busy.tolist()))
                busy[:] = 0
            answers.append(told)
        assert answers[0] == answers[1]

    @LIMIT
    @given(
        st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 2), st.booleans()), max_size=30),
        st.booleans(),
    )
    def test_one_by_one_is_the_gate_with_each_answer_at_once(
        self, rows: list[tuple[int, int, bool]], every: bool
    ) -> None:
        """The third of a row: whether an order of its tick is refused."""
        made = batch([(i, symbol, 1.0) for i, (_, symbol, _) in enumerate(rows)])
        signals = np.array([signal for signal, _, _ in rows], np.int8)
        answers = []
        for kernel in (_kernel, plain_kernel):
            for one_by_one in (True, False):
                position, busy = np.zeros(3, np.int8), np.zeros(3, np.uint8)
                gate = kernel.OrderGate(position, busy, ["A", "B", "C"], every, 1)
                told: list[Any] = []
                before = position.copy()

                def settle(intent: Any, position: Any, before: Any, told: list[Any]) -> None:
                    refused = rows[intent.seq][2]
                    place = intent.symbol_index
                    position[place] = before[place] if refused else intent.target
                    before[:] = position
                    told.append(tuple(getattr(intent, name) for name in INTENT))

                if one_by_one:
                    for intent in gate.one_by_one(made, signals):
                        settle(intent, position, before, told)
                at = len(rows) if one_by_one else 0
                while at < len(rows):
                    intents, at = gate.intents(made, signals, at)
                    for intent in intents:
                        settle(intent, position, before, told)
                    busy[:] = 0
                answers.append((told, position.tolist()))
        assert all(answer == answers[0] for answer in answers)
