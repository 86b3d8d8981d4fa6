"""The simulation behaves as queues do, and the page has its figures."""

import json
import re
from itertools import pairwise

import numpy as np
import pytest

from tests.bench.plan.simulate import (
    FAILOVER_AT_S,
    HERE,
    SHARDS,
    SLICE_S,
    costs_of,
    largest,
    load_of,
    results,
    waits,
)

MEASURED = json.loads((HERE / "measured.json").read_text())
FIGURES = json.loads((HERE / "figures.json").read_text())


def test_the_figures_are_those_of_the_measurements() -> None:
    found = results(MEASURED)
    for each in found["failover"].values():
        del each["line"]
    assert json.loads(json.dumps(found)) == FIGURES


@pytest.mark.skipif(not (HERE / "plan.md").exists(), reason="the image has no documentation")
def test_the_page_has_the_figures() -> None:
    page = (HERE / "plan.md").read_text()
    for name in ("shards_at_70_percent", "shards_at_70_percent_slow_flush"):
        for part, shards in FIGURES[name].items():
            assert re.search(rf"^\| {part} .*\b{shards:,}\b", page, re.MULTILINE), (name, part)
    for case in FIGURES["failover"].values():
        assert f"{case['over_after_s']:.0f} s" in page


def test_more_shards_use_more_of_everything() -> None:
    costs = costs_of(MEASURED)
    loads = [load_of(shards, costs) for shards in SHARDS]
    assert all(
        low < high for less, more in pairwise(loads) for low, high in zip(less, more, strict=True)
    )
    for part in ("sequencer", "broker", "portfolio"):
        most = largest(costs, part)
        assert getattr(load_of(most, costs), part) <= 0.7
        assert getattr(load_of(int(most * 1.02) + 1, costs), part) > 0.7


@pytest.mark.parametrize("load", [0.2, 0.5, 0.8])
def test_after_a_stall_the_queue_is_over_when_the_spare_capacity_has_served_it(load: float) -> None:
    """What came in a stall of d takes d * load / (1 - load) of what is left."""
    cost_s, stall_s = 0.0005, 5.0
    found = []
    for seed in range(8):
        line = waits(
            np.random.default_rng(seed),
            load / cost_s,
            cost_s,
            (FAILOVER_AT_S, stall_s),
            bursty=False,
        )
        busy = np.nonzero(line[int(FAILOVER_AT_S / SLICE_S) :] > 0.1)[0]
        found.append(float(busy[-1]) * SLICE_S - stall_s)
        assert line.max() >= stall_s * 0.9
    assert np.median(found) == pytest.approx(stall_s * load / (1 - load), rel=0.1, abs=0.2)


def test_without_load_nobody_waits() -> None:
    line = waits(np.random.default_rng(1), 10.0, 0.0005, (0.0, 0.0))
    assert line.max() < 2 * SLICE_S
