"""Which exit of the strategy the supervisor takes for the end of the run."""

import os
from types import SimpleNamespace
from typing import Any

from app.config import Settings
from app.kernel import _kernel
from app.main import Child, Supervisor
from app.runtime.lifecycle import Stop
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.tick_ring import TickRing


def test_a_strategy_that_is_cut_short_does_not_end_the_run(name: str) -> None:
    """Not even after the feed has ended, and with no place kept in the ring: it never had one."""
    settings = Settings(shm_tick_ring=f"{name}_ring", shm_metrics=f"{name}_metrics", replay="once")
    with SharedPriceBook(["A"], f"{name}_book") as book:
        ring = TickRing.open_writer(settings.shm_tick_ring, 64, "lossless")
        writer = _kernel.TickWriter(ring.buffer, book.buffer, _kernel.FieldParser(["A"]))
        metrics = ProcessMetrics.open(settings.shm_metrics, "strategy")
        process: Any = SimpleNamespace(pid=os.getpid())
        supervisor, child = Supervisor(settings, Stop()), Child("strategy", process, -1)

        def ending_codes(state: str) -> list[int]:
            metrics.set_state(state)
            return [code for code in range(5) if supervisor._has_ended(child, code)]

        assert ending_codes("done") == [], "the feed has not ended"
        writer.finish(0)
        assert ending_codes("draining") == [], "cut short"
        assert ending_codes("done") == [0, 3, 4]
        metrics.close()
        del writer
        ring.close()
        book.unlink()
