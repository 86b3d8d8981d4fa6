"""Two shards, three brokers and the portfolio, disturbed at random; 50 runs are a command."""

from pathlib import Path

import pytest

from tests.app.bus.chaos.whole import Whole


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", range(1, 4))
def test_trades_messages_and_portfolio_are_those_of_an_undisturbed_run(
    tmp_path: Path, seed: int
) -> None:
    with Whole(tmp_path, seed) as whole:
        whole.inject(whole.draw(8))
        assert whole.check()["orders"] > 500
