"""Which exits the supervisor takes for the end of the run, and how often it restarts."""

import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from app.config.settings import Settings
from app.kernel import _kernel
from app.main import RESTARTS_MAX, Child, Supervisor
from app.runtime.lifecycle import FatalError, Stop
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


@pytest.mark.parametrize(
    ("chaos", "code", "ends"),
    [
        (True, -signal.SIGKILL, False),
        (False, -signal.SIGKILL, True),
        (True, -signal.SIGSEGV, True),
        (True, 1, True),
    ],
)
def test_kills_on_request_end_no_run_however_often(
    monkeypatch: pytest.MonkeyPatch, chaos: bool, code: int, ends: bool
) -> None:
    now = [1000.0]
    monkeypatch.setattr("app.main.time.monotonic", lambda: now[0])
    supervisor = Supervisor(Settings(chaos=chaos), Stop())
    reading, writing = os.pipe2(os.O_NONBLOCK)
    process: Any = SimpleNamespace(pid=1)
    child = Child("strategy", process, reading)
    restarts = 0

    def start_again(_child: Child) -> None:
        nonlocal restarts
        restarts += 1

    monkeypatch.setattr(supervisor, "_start_again", start_again)

    def die_often() -> None:
        for _ in range(3 * RESTARTS_MAX):
            supervisor._restart(child, code)
            now[0] += 2
            supervisor._restart(child, code)

    if ends:
        with pytest.raises(FatalError, match=f"{RESTARTS_MAX} restarts in 60 s"):
            die_often()
    else:
        die_often()
    assert restarts == (RESTARTS_MAX if ends else 3 * RESTARTS_MAX)
    os.close(reading)
    os.close(writing)
