"""A run whose strategy and order manager are killed, compared with one that nobody disturbs."""

import signal
from pathlib import Path
from typing import Any

from app.backtest.outcome import Outcome, first_difference
from tests.app.strategy.kit.test_stepping import SAMPLE
from tests.chaos.host import HostStack


def check_killed_run(
    folder: Path, strategy: str, settings: dict[str, Any], expected: Outcome
) -> str:
    """Of the sample; ``strategy`` kills itself (:func:`tests.chaos.host.dying`).

    Returns the stack's log.
    """
    run = {"data_path": SAMPLE, "pace": "10000/s", "strategy": strategy, **settings}
    with HostStack(folder / "run", **run) as stack:
        for tick in (3000, 16_000):
            stack.wait_until(
                f"tick {tick}",
                lambda tick=tick: stack.counter("strategy", "ticks_consumed") >= tick,
                60,
            )
            assert stack.signal("order_manager", signal.SIGKILL)
        assert stack.wait(120) == 0, stack.tail()
        assert first_difference(stack.outcome(), expected) is None
        log = stack.log_path.read_text()
    assert log.count("process_died process=strategy") >= 2
    assert log.count("process_died process=order_manager") == 2
    return log
