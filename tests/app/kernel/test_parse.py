"""The parser; each test runs on the compiled and on the plain kernel.

Book and ring: ``test_memory.py``; loops over a batch: ``test_loops.py``; both on the same
random input: ``test_twins.py``.
"""

import locale
from typing import Any

import numpy as np
import pytest

from app.kernel import _kernel
from app.model.tick import TICK_DTYPE
from tests.support.kernel.helpers import BOTH, DAY_NS, LONG, SYMBOLS, padded, refused


@BOTH
def kernel(request: pytest.FixtureRequest) -> Any:
    return request.param


def parse(
    kernel: Any, data: bytes, percent: bool = False, room: int = 64
) -> tuple[list[tuple[int, int, float]], int, int]:
    """Ticks as (event time, symbol, value), position and stop; independent of earlier ticks."""
    answer = parse_after(kernel, 0, data, percent, room)
    if not percent:
        # Ticks of a cached minute, and blocks of them, take other paths through the parser.
        for before in (1, 31, 33):
            assert parse_after(kernel, before, data, percent, room) == answer
        had_vectors = _kernel.use_vectors(False)
        try:
            assert parse_after(kernel, 1, data, percent, room) == answer
        finally:
            _kernel.use_vectors(had_vectors)
    return answer


def parse_after(
    kernel: Any, before: int, data: bytes, percent: bool, room: int
) -> tuple[list[tuple[int, int, float]], int, int]:
    """As :func:`parse`, after ``before`` valid ticks."""
    head = b"2025-10-01 09:30:00*A*1*" * before
    out = np.zeros(before + room, TICK_DTYPE)
    parser = kernel.FieldParser(SYMBOLS)
    text, end = padded(head + data), len(head) + len(data)
    if percent:
        count, position, stop, *_ = kernel.parse_sentiments(parser, text, 0, end, out, 5)
        assert set(out["seq"][:count].tolist()) <= {5}
    else:
        count, position, stop = kernel.parse_ticks(parser, text, 0, end, out, 5)
        assert out["seq"][:count].tolist() == list(range(5, 5 + count))
    rows = out[["event_ns", "symbol", "price"]][before:count].tolist()
    return rows, position - len(head), stop


class TestParser:
    """Bytes in; ticks, the position and the reason for stopping out."""

    TICK = b"2025-10-01 09:30:00.25*MSFT*173.20*"

    @pytest.mark.parametrize(
        ("text", "event_ns"),
        [
            (b"2025-10-01 09:30:00", DAY_NS + 34200 * 10**9),
            (b"2025-10-01T09:30:00Z", DAY_NS + 34200 * 10**9),
            (b"2025-10-01 09:30:00.1", DAY_NS + 34200 * 10**9 + 10**8),
            (b"2025-10-01 09:30:00.000000001Z", DAY_NS + 34200 * 10**9 + 1),
            (b"2025-10-01 23:59:59.999999999", DAY_NS + 86400 * 10**9 - 1),
            (b"1970-01-01 00:00:00", 0),
            (b"2024-02-29 00:00:00", 19782 * 86400 * 10**9),
            (b"2000-02-29 00:00:00", 11016 * 86400 * 10**9),
            (b"2261-12-31 23:59:59.999999999", 106651 * 86400 * 10**9 - 1),
        ],
    )
    def test_timestamps(self, kernel: Any, text: bytes, event_ns: int) -> None:
        assert parse(kernel, text + b"*A*1*") == (
            [(event_ns, 0, 1.0)],
            len(text) + 5,
            kernel.NEED_MORE,
        )

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"\0" * 16 + b":00",
            b"2025-10-01",
            b"2025-10-01 09:30",
            b"2025-10-01 09:30:0",
            b"2025-10-01 09:30\0\0\0\0",
            b"2025-10-01 09:30\xff\xff\xff\xff",
            b"2025-10-01 24:00:00",
            b"2025-10-01 23:60:00",
            b"2025-10-01 09:30:60",
            b"2025-02-29 09:30:00",
            b"2100-02-29 09:30:00",
            b"2025-04-31 09:30:00",
            b"2025-00-01 09:30:00",
            b"2025-13-01 09:30:00",
            b"2025-10-00 09:30:00",
            b"1969-12-31 23:59:59",
            b"2262-01-01 00:00:00",
            b"2025-10-01t09:30:00",
            b"2025-10-01 09:30:00z",
            b"2025-10-01 09:30:00ZZ",
            b"2025-10-01 09:30:00.",
            b"2025-10-01 09:30:00.Z",
            b"2025-10-01 09:30:00.1234567890",
            b"2025-10-01 09:30:00+00:00",
            b"2025-10-01 09:30:00 ",
            b" 2025-10-01 09:30:00",
            b"2025/10/01 09:30:00",
            b"2025-1\xb0-01 09:30:00",
            b"+025-10-01 09:30:00",
            b"1759311000",
        ],
    )
    def test_malformed_timestamps(self, kernel: Any, text: bytes) -> None:
        assert parse(kernel, text + b"*A*1*") == ([], 0, kernel.BAD_TIMESTAMP)

    def test_a_cached_minute_or_second_is_replaced_by_the_next(self, kernel: Any) -> None:
        start_ns = DAY_NS + 34200 * 10**9
        times = {
            "2025-10-01 09:30:07": 7.0,
            "2025-10-01 09:30:07.5": 7.5,
            "2025-10-01 09:30:07Z": 7.0,
            "2025-10-01 09:31:07": 67.0,
            "2025-10-01 09:31:08": 68.0,
            "2025-10-02 09:30:07": 86407.0,
        }
        order = [*times, *reversed(times), *times]
        ticks, _, stop = parse(kernel, "".join(f"{text}*A*1*" for text in order).encode())
        assert [tick[0] for tick in ticks] == [start_ns + int(times[t] * 1e9) for t in order]
        assert stop == kernel.NEED_MORE

    @pytest.mark.parametrize(
        ("text", "price"),
        [
            (b"1", 1.0),
            (b"173.20", 173.2),
            (b"0.000000001", 1e-9),
            (b"9000000000", 9e9),
            (b"8999999999.999999999", 8999999999.999999999),
            (b"007.5", 7.5),
            (b".5", 0.5),
            (b"5.", 5.0),
            (b"0.1000000000000000055511151231257827", 0.1),
            (b"9007199254740993e-7", 900719925.4740993),
            (b"123456.789012345678901", 123456.789012345678901),
            (b"1e3", 1000.0),
            (b"1E+3", 1000.0),
            (b"1.5e-3", 0.0015),
            (b"0" * 63 + b"2", 2.0),
        ],
    )
    def test_prices(self, kernel: Any, text: bytes, price: float) -> None:
        data = b"2025-10-01 09:30:00*A*" + text + b"*"
        assert parse(kernel, data)[0] == [(DAY_NS + 34200 * 10**9, 0, price)]

    @pytest.mark.parametrize(
        "text",
        [
            *b" |.|-1|+1|0|0.0|0e5|1e999|1e-320|1e-10|9000000000.01|1e10|inf|INF".split(b"|"),
            *b"nan|infinity|0x1p3|0x10|1,5|1_0| 1|1 |1e|1e+|1e1.5|1.2.3|1..2|e5".split(b"|"),
            *b"1e 5|--1|1d5|1f|\xd9\xa1||1\0".split(b"|"),
            b"0" * 64 + b"2",
            b"1" + b"0" * 400,
        ],
    )
    def test_malformed_prices(self, kernel: Any, text: bytes) -> None:
        head = b"2025-10-01 09:30:00*A*"
        assert parse(kernel, head + text + b"*") == ([], len(head), kernel.BAD_PRICE)

    def test_sentiments(self, kernel: Any) -> None:
        head = b"2025-10-01 09:30:00*A*"
        for text, value in ((b"0", 0), (b"7", 7), (b"050", 50), (b"100", 100)):
            assert parse(kernel, head + text + b"*", percent=True)[0][0][2] == value
        for text in (b"", b"101", b"-1", b"+1", b"5.0", b"1000", b"0100", b"x", b" 5"):
            answer = parse(kernel, head + text + b"*", percent=True)
            assert answer == ([], len(head), kernel.BAD_SENTIMENT)

    def test_marks_number_the_sentiments_behind_them(self, kernel: Any) -> None:
        a = b"2025-10-01 09:30:00*A*50*"
        parser, out = kernel.FieldParser(SYMBOLS), np.zeros(9, TICK_DTYPE)

        def numbered(data: bytes, before: int = 5, room: int = 9) -> tuple[list[int], Any]:
            answer = kernel.parse_sentiments(parser, padded(data), 0, len(data), out[:room], before)
            return out["seq"][: answer[0]].tolist(), answer[1:]

        data = a + b"SEQ|7*" + a + a + b"SEQ|6*SEQ|999999999999999999*" + a
        last = 10**18 - 1
        assert numbered(data) == ([5, 7, 7, last], (len(data), kernel.NEED_MORE, last, 3))
        assert numbered(data, room=2) == ([5, 7], (len(a) * 2 + 6, kernel.FULL, 7, 1))
        assert numbered(data, before=last) == ([last] * 4, (len(data), 0, last, 3))
        assert numbered(a + b"SEQ|7") == ([5], (len(a), kernel.NEED_MORE, 5, -1))
        for other in (b"SEQ|*", b"SEQ|7x*", b"SEQ|1234567890123456789*", b"END|7*", b"SEQ*7*"):
            assert numbered(a + other + a) == ([5], (len(a), kernel.MARK, 5, -1))

    @pytest.mark.parametrize("index", range(len(SYMBOLS)))
    def test_symbols_of_every_length(self, kernel: Any, index: int) -> None:
        data = b"2025-10-01 09:30:00*" + SYMBOLS[index].encode() + b"*1*"
        assert parse(kernel, data)[0][0][1] == index

    @pytest.mark.parametrize(
        "text",
        [
            *b"|a|B|MSF|MSFT |MSFT\0|A\0\0|\0|1234567|12345678\0|123456780".split(b"|"),
            *(b"1234567890\0", b"1234567890" * 2, b"\xff" * 10, b"\xff" * 40, b"A,MSFT"),
            *(b"123456789012\0", b"123456789012" + b"\0" * 20, b"AAPL251219C00200001"),
            *(b"AAPL251218C00200000", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ12346", LONG.encode()),
        ],
    )
    def test_unknown_symbols(self, kernel: Any, text: bytes) -> None:
        data = b"2025-10-01 09:30:00*" + text + b"*1*"
        assert parse(kernel, data) == ([], 20, kernel.BAD_SYMBOL)

    @pytest.mark.parametrize(
        "symbols", [["A", "A"], [""], [LONG], ["BTC-USDT-PERP"] * 2, [LONG[:32]] * 2]
    )
    def test_invalid_symbol_lists_are_refused(self, kernel: Any, symbols: list[str]) -> None:
        with refused():
            kernel.FieldParser(symbols)

    @pytest.mark.parametrize("count", [31, 32, 4096, 10_000])
    def test_every_symbol_of_a_long_list_is_found_and_no_other(
        self, kernel: Any, count: int
    ) -> None:
        symbols = [f"S{i}" for i in range(count)]
        parser = kernel.FieldParser(symbols)
        ticks = b"".join(b"2025-10-01 09:30:00*%s*1*" % symbol.encode() for symbol in symbols)
        out = np.zeros(count + 1, TICK_DTYPE)
        data = padded(ticks + b"2025-10-01 09:30:00*S%d*1*" % count)
        end = len(data) - _kernel.PARSE_SLACK_BYTES
        done, _, stop = kernel.parse_ticks(parser, data, 0, end, out)
        assert (done, stop) == (count, kernel.BAD_SYMBOL)
        assert out["symbol"][:count].tolist() == list(range(count))

    def test_a_prefix_of_a_tick_is_not_a_tick(self, kernel: Any) -> None:
        for end in range(len(self.TICK)):
            assert parse(kernel, self.TICK[:end]) == ([], 0, kernel.NEED_MORE)

    def test_a_malformed_tick_is_refused_exactly_at_its_end(self, kernel: Any) -> None:
        for wrong in (b"x*MSFT*1*", b"2025-10-01 09:30:00*?*1*", b"2025-10-01 09:30:00*A*-1*"):
            stops = [parse(kernel, wrong[:end])[2] for end in range(len(wrong) + 1)]
            assert stops[:-1] == [kernel.NEED_MORE] * len(wrong)
            assert stops[-1] in (kernel.BAD_TIMESTAMP, kernel.BAD_SYMBOL, kernel.BAD_PRICE)

    def test_stops_when_the_output_is_full(self, kernel: Any) -> None:
        assert parse(kernel, self.TICK * 3, room=2)[1:] == (2 * len(self.TICK), kernel.FULL)
        assert parse(kernel, self.TICK, room=0) == ([], 0, kernel.FULL)

    def test_marks(self, kernel: Any) -> None:
        for mark in (b"SEQ|12*", b"END|3*", b"Z*"):
            data = self.TICK + mark + self.TICK
            for end in range(len(self.TICK), len(data) + 1):
                ticks, position, stop = parse(kernel, data[:end])
                complete = end >= len(self.TICK) + len(mark)
                assert (len(ticks), position) == (1, len(self.TICK))
                assert stop == (kernel.MARK if complete else kernel.NEED_MORE)

    @pytest.mark.parametrize(("start", "end"), [(-1, 5), (6, 5), (0, 11), (0, 43)])
    def test_bounds(self, kernel: Any, start: int, end: int) -> None:
        parser = kernel.FieldParser(SYMBOLS)
        with refused():
            kernel.parse_ticks(parser, bytearray(42), start, end, np.zeros(1, TICK_DTYPE))

    def test_prices_do_not_depend_on_the_locale(self, kernel: Any) -> None:
        before = locale.setlocale(locale.LC_NUMERIC)
        try:
            locale.setlocale(locale.LC_NUMERIC, "de_DE.UTF-8")
        except locale.Error:
            pytest.skip("no locale with a decimal comma is installed")
        try:
            assert parse(kernel, b"2025-10-01 09:30:00*A*1.5e0*")[0][0][2] == 1.5
            assert parse(kernel, b"2025-10-01 09:30:00*A*1,5e0*")[2] == kernel.BAD_PRICE
        finally:
            locale.setlocale(locale.LC_NUMERIC, before)
