"""Loops over a batch; each test runs on the compiled and on the plain kernel."""

from typing import Any

import numpy as np
import pytest

from tests.support.kernel.helpers import BOTH, records, reference_signals, refused

FLAT = 2


@BOTH
def kernel(request: pytest.FixtureRequest) -> Any:
    return request.param


def _gate(kernel: Any, *, every: bool = False, orders_max: int = 4) -> Any:
    """The gate of a strategy with one symbol."""
    position, busy = np.zeros(1, np.int8), np.zeros(1, np.uint8)
    return kernel.OrderGate(position, busy, ["AAPL"], every, orders_max)


class TestBatchLoops:
    """The loops that strategies run over a batch."""

    def test_sentiment_is_the_last_at_or_before_the_tick(self, kernel: Any) -> None:
        events = records((5, 0, 10), (5, 0, 20), (6, 1, 30), (9, 0, 40))
        ticks = records((4, 0, 1.0), (5, 0, 1.0), (5, 1, 1.0), (8, 1, 1.0), (8, 0, 1.0))
        latest, out = np.full(2, -1, np.int16), np.zeros(5, np.int16)
        assert kernel.join_sentiment(ticks, events, 0, latest, out) == 3
        assert out.tolist() == [-1, 20, -1, 30, 20]
        assert latest.tolist() == [20, 30]

    def test_sentiment_of_a_later_row_of_the_same_time_is_not_seen(self, kernel: Any) -> None:
        events = records((5, 0, 10), (5, 0, 20))
        events["seq"] = [0, 2]
        ticks = records((5, 0, 1.0), (5, 0, 1.0), (5, 0, 1.0))
        latest, out = np.full(1, -1, np.int16), np.zeros(3, np.int16)
        assert kernel.join_sentiment(ticks[:2], events, 0, latest, out) == 1
        assert kernel.join_sentiment(ticks[2:], events, 1, latest, out[2:]) == 2
        assert out.tolist() == [10, 10, 20]

    @pytest.mark.parametrize(("short", "long"), [(0, 5), (5, 5), (6, 5), (-1, 5)])
    def test_invalid_windows_are_refused(self, kernel: Any, short: int, long: int) -> None:
        with refused():
            kernel.CrossAverage(1, short, long)

    @pytest.mark.parametrize(("short", "long"), [(1, 2), (1, 7), (2, 3), (5, 6), (3, 20)])
    def test_averages_equal_the_reference_strategys(
        self, kernel: Any, short: int, long: int
    ) -> None:
        rng = np.random.default_rng(short * 100 + long)
        prices = np.round(rng.choice([0.1, 0.2, 0.3, 1e9, 9e9, 1e-9], 200), 9)
        ticks = records(*((0, i % 3, price) for i, price in enumerate(prices)))
        out = np.zeros(200, np.int8)
        kernel.CrossAverage(3, short, long).signals(ticks, out)
        assert out.tolist() == reference_signals(ticks, short, long)

    @pytest.mark.parametrize("large_at", [0, 1, 7, 25])
    def test_averages_stay_exact_from_the_first_price_that_needs_more_bits(
        self, kernel: Any, large_at: int
    ) -> None:
        rng = np.random.default_rng(large_at)
        prices = np.round(rng.normal(100, 1, 60), 2)
        prices[large_at] = 9e9  # 20 of them, times 5, are beyond 64 bits
        ticks = records(*((0, i % 2, price) for i, price in enumerate(prices)))
        out = np.zeros(60, np.int8)
        averages = kernel.CrossAverage(2, 5, 20)
        averages.signals(ticks[:20], out)
        averages.signals(ticks[20:], out[20:])
        expected = reference_signals(ticks, 5, 20)
        assert out.tolist() == expected
        assert {1, -1} <= set(expected)

    def test_a_flat_price_never_trades(self, kernel: Any) -> None:
        out = np.ones(100, np.int8)
        kernel.CrossAverage(1, 3, 7).signals(records(*[(0, 0, 0.1)] * 100), out)
        assert not out.any()

    def test_agreement_needs_both(self, kernel: Any) -> None:
        ticks = records(*((0, 0, price) for price in (1.0, 2.0, 3.0, 4.0, 5.0, 4.0, 3.0, 2.0)))
        sentiments = np.array([90, -1, 50, 51, 49, 49, 50, -1], np.int16)
        out = np.zeros(8, np.int8)
        kernel.CrossAverage(1, 1, 2).agree(ticks, sentiments, 50, 50, out)
        assert out.tolist() == [0, 0, 0, 1, 0, -1, 0, 0]

    def test_positions_gate_orders(self, kernel: Any) -> None:
        ticks = records(*[(0, 0, 1.0)] * 4, *[(0, 1, 1.0)] * 2)
        signals = np.array([1, 1, 0, -1, 1, 1], np.int8)
        position, busy = np.zeros(2, np.int8), np.zeros(2, np.uint8)
        gate = kernel.OrderGate(position, busy, ["AAPL", "MSFT"], False, 8)
        # The second BUY becomes an order only if the first one is refused.
        first, at = gate.intents(ticks, signals, 0)
        assert ([(i.seq, i.symbol, i.signal) for i in first], at) == ([(0, "AAPL", 1)], 1)
        assert (position.tolist(), busy.tolist()) == ([1, 0], [2, 0])
        busy[:] = 0
        more, at = gate.intents(ticks, signals, 1)
        assert [(i.seq, i.symbol, i.signal) for i in more] == [(3, "AAPL", -1), (4, "MSFT", 1)]
        assert (at, position.tolist(), busy.tolist()) == (5, [-1, 1], [3, 2])
        busy[:] = 0
        assert gate.intents(ticks, signals, 5) == ([], 6)

    def test_flat_sends_the_order_that_closes_the_position(self, kernel: Any) -> None:
        rows = [(FLAT, []), (1, [(1, 1)]), (FLAT, [(-1, 0)]), (FLAT, []), (-1, [(-1, -1)])]
        rows += [(FLAT, [(1, 0)]), (0, []), (1, [(1, 1)]), (-1, [(-1, -1)])]
        position, busy = np.zeros(1, np.int8), np.zeros(1, np.uint8)
        gate = kernel.OrderGate(position, busy, ["AAPL"], False, 4)
        for signal, expected in rows:
            before = int(position[0])
            busy[:] = 0
            made, _ = gate.intents(records((0, 0, 1.0)), np.array([signal], np.int8), 0)
            assert [(intent.signal, intent.target) for intent in made] == expected
            assert busy[0] == (before + 2 if made else 0)

    def test_flat_waits_for_the_answer_of_its_symbol(self, kernel: Any) -> None:
        """Whether it closes something depends on whether the BUY is accepted."""
        ticks, signals = records(*[(0, 0, 1.0)] * 2), np.array([1, FLAT], np.int8)
        for accepted, closes in ((True, [-1]), (False, [])):
            position, busy = np.zeros(1, np.int8), np.zeros(1, np.uint8)
            gate = kernel.OrderGate(position, busy, ["AAPL"], False, 4)
            assert gate.intents(ticks, signals, 0)[1] == 1
            position[0], busy[0] = int(accepted), 0
            made, at = gate.intents(ticks, signals, 1)
            assert ([intent.signal for intent in made], at) == (closes, 2)

    def test_every_sends_an_order_for_each_signal(self, kernel: Any) -> None:
        ticks = records(*[(0, 0, 1.0)] * 5)
        signals = np.array([1, 1, FLAT, -1, 1], np.int8)
        gate = _gate(kernel, every=True, orders_max=3)
        intents, at = gate.intents(ticks, signals, 0)
        assert ([intent.seq for intent in intents], at) == ([0, 1, 3], 4)
        intents, at = gate.intents(ticks, signals, 4)
        assert ([intent.seq for intent in intents], at) == ([4], 5)

    @pytest.mark.parametrize("invalid", [3, -2, 127, -128])
    def test_an_invalid_signal_is_refused(self, kernel: Any, invalid: int) -> None:
        signals = np.array([0, invalid], np.int8)
        with refused():
            kernel.tally(signals)
        with refused():
            _gate(kernel).intents(records((0, 0, 1.0), (0, 0, 1.0)), signals, 0)

    def test_a_gate_for_less_than_one_order_is_refused(self, kernel: Any) -> None:
        for orders_max in (0, -1):
            with refused():
                _gate(kernel, orders_max=orders_max)

    def test_tally(self, kernel: Any) -> None:
        assert kernel.tally(np.array([1, -1, 2, 0, 1, 1, 2], np.int8)) == (3, 1, 2, 1)
        assert kernel.tally(np.zeros(0, np.int8)) == (0, 0, 0, 0)

    def test_a_symbol_out_of_range_is_refused(self, kernel: Any) -> None:
        ticks, out = records((0, 3, 1.0)), np.zeros(1, np.int8)
        with pytest.raises(IndexError):
            kernel.CrossAverage(3, 1, 2).signals(ticks, out)
        with pytest.raises(IndexError):
            kernel.join_sentiment(ticks, ticks[:0], 0, np.zeros(3, np.int16), np.zeros(1, np.int16))
        known = records((0, 0, 1.0))
        with pytest.raises(IndexError):
            kernel.join_sentiment(known, ticks, 0, np.zeros(3, np.int16), np.zeros(1, np.int16))
        with pytest.raises(IndexError):
            _gate(kernel).intents(ticks, np.ones(1, np.int8), 0)

    def test_short_outputs_are_refused(self, kernel: Any) -> None:
        ticks = records((0, 0, 1.0), (0, 0, 1.0))
        short = np.zeros(1, np.int8)
        with refused():
            kernel.CrossAverage(1, 1, 2).signals(ticks, short)
        with refused():
            kernel.join_sentiment(ticks, ticks, 0, np.zeros(1, np.int16), np.zeros(1, np.int16))
        with refused():
            _gate(kernel).intents(ticks, np.ones(3, np.int8), 0)

    def test_histogram_buckets(self, kernel: Any) -> None:
        buckets = np.zeros(1000, np.uint64)
        for value in (-5, 0, 255, 256, 257, 258, 511, 512, 2**62):
            kernel.record_latency(buckets, value)
        kernel.record_latency(buckets, 3, 10)
        filled = {i: int(n) for i, n in enumerate(buckets) if n}
        assert filled == {0: 2, 3: 10, 255: 1, 256: 2, 257: 1, 383: 1, 384: 1, 999: 1}

    def test_ages_are_right_when_the_32_bit_clock_wraps(self, kernel: Any) -> None:
        ticks = records((0, 0, 1.0), (0, 0, 1.0), (0, 0, 1.0))
        ticks["recv_us"] = [2**32 - 1, 2**32 - 1, 0]
        buckets = np.zeros(4000, np.uint64)
        kernel.record_ages(buckets, ticks, (2**32 + 1) * 1000)
        assert int(buckets.sum()) == 3
        expected = np.zeros(4000, np.uint64)
        kernel.record_latency(expected, 2000, 2)
        kernel.record_latency(expected, 1000)
        assert buckets.tolist() == expected.tolist()

    @pytest.mark.parametrize("together", [1, 63, 64, 65, 128, 200])
    def test_ages_of_ticks_received_together(self, kernel: Any, together: int) -> None:
        counts = [2, together, 1, together, together]
        ticks = records(*[(0, 0, 1.0)] * sum(counts))
        ticks["recv_us"] = np.repeat(np.arange(5) * 10, counts)
        buckets, expected = np.zeros(4000, np.uint64), np.zeros(4000, np.uint64)
        kernel.record_ages(buckets, ticks, 50_000)
        for i, count in enumerate(counts):
            kernel.record_latency(expected, 50_000 - i * 10_000, count)
        assert buckets.tolist() == expected.tolist()


class TestRefusals:
    """Of what has the right type only."""

    def test_windows_too_large_for_memory_are_refused(self, kernel: Any) -> None:
        with pytest.raises(MemoryError):
            kernel.CrossAverage(10, 5, 2**62)

    def test_ticks_of_another_shape_are_refused(self, kernel: Any) -> None:
        with pytest.raises(ValueError, match="whole number"):
            kernel.CrossAverage(1, 1, 2).signals(np.zeros(33, np.int8), np.zeros(2, np.int8))
