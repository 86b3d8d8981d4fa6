"""Kill anything, get the same trades: each example strategy, with all costs, in the four processes.

``python -m tests.chaos.run_host --examples`` does more runs.
"""

import secrets
from pathlib import Path

import pytest

from tests.chaos.run_host import COSTS, EXAMPLES, example_scenarios, run_once, undisturbed
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium


@pytest.mark.parametrize("strategy", EXAMPLES)
def test_seeded_chaos(tmp_path: Path, strategy: str) -> None:
    (scenario,) = (s for s in example_scenarios() if s.settings["strategy"] == strategy)
    expected = undisturbed(scenario.data_path, **scenario.settings)
    assert len(expected.fills) > 20, "it trades"
    seed = secrets.randbelow(10**6)
    verdict = run_once(seed, scenario, expected, 5, tmp_path)
    assert verdict.difference is None, f"seed {seed}\n{verdict.report_path.read_text()}"


def test_the_costs_change_what_is_earned() -> None:
    """So that the runs above compare what they are meant to compare."""
    data = ROOT / "data" / "market_data.csv"
    dear, free = (undisturbed(data, strategy=EXAMPLES[2], **costs) for costs in (COSTS, {}))
    assert any(order.filled_qty < order.qty for order in dear.orders if order.filled_qty)
    # A quote that the market has passed while it was in transit takes.
    assert {order.type for order in dear.orders} == {"LIMIT", "PLAIN"}
    assert {order.type for order in free.orders} == {"LIMIT"}
    assert dear.profit != free.profit
    assert {Path(name.partition(":")[0]).name for name in EXAMPLES} < {
        file.name for file in (ROOT / "data/strategies").glob("*.py")
    }
