"""How far the live run has got: only what is certain counts."""

from collections.abc import Iterator

import pytest

from app.backtest.proof.live_run import LiveRun
from app.config.settings import Settings
from app.kernel import _kernel
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.tick_ring import LOSSLESS, TickRing

TICKS = b"2025-01-01 00:00:00*A*1.5*" * 5


class Stack:
    """A ring with five ticks, and a strategy's metrics."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.book = SharedPriceBook(["A"], f"{name}_book")
        self.metrics = ProcessMetrics.open(settings.shm_metrics, "strategy")
        self.settings = settings
        self.open_ring()

    def open_ring(self) -> None:
        self.ring = TickRing.open_writer(self.settings.shm_tick_ring, 64, "lossless", fresh=True)
        self.writer = _kernel.TickWriter(
            self.ring.buffer, self.book.buffer, _kernel.FieldParser(["A"])
        )
        frames = bytearray(TICKS + b"*" * _kernel.PARSE_SLACK_BYTES)
        self.writer.push(frames, 0, len(TICKS), 1)

    def close_ring(self) -> None:
        del self.writer
        self.ring.close()


@pytest.fixture
def stack(name: str) -> Iterator[Stack]:
    settings = Settings(
        shm_tick_ring=f"{name}_ring", shm_metrics=f"{name}_metrics", strategy_client="strategy"
    )
    made = Stack(settings, name)
    yield made
    made.close_ring()
    made.metrics.close()
    made.book.unlink()


def test_nothing_without_a_ring() -> None:
    assert LiveRun(Settings(shm_tick_ring="no_such_ring")).look() is None


def test_a_strategy_counts_when_it_has_caught_up(stack: Stack) -> None:
    live = LiveRun(stack.settings)
    slot = stack.ring.register("strategy", LOSSLESS).slot
    stack.ring.register("strategyx", LOSSLESS)
    stack.ring.view.set_reader(slot, LOSSLESS, cursor=3)
    for state, consumed in (("starting", 0), ("ready", 3), ("stale", 3)):
        stack.metrics.set_state(state)
        found = live.look()
        assert found is not None
        assert (found.consumed, found.published) == ({"strategy": consumed}, 5)
        assert (found.end, found.is_over, found.done) == (None, False, False)
    stack.writer.finish(5)
    stack.ring.leave(slot)
    stack.metrics.set_state("done")
    found = live.look()
    assert found is not None
    assert (found.consumed, found.end, found.is_over, found.done) == ({}, 5, True, True)
    live.close()


def test_a_new_ring_has_another_number(stack: Stack) -> None:
    live = LiveRun(stack.settings)
    first = live.look()
    stack.close_ring()
    stack.open_ring()
    second = live.look()
    assert first is not None
    assert second is not None
    assert first.ring != second.ring
    live.close()
