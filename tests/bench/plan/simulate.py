"""Shards from 2 to 10,000 on one broker, simulated from ``measured.json``: what ends first.

``python -m tests.bench.plan.simulate`` computes ``figures.json`` and draws ``plots/*.svg``; the
seed is fixed, so the same measurements give the same figures.

The model, in words (seconds and messages):

- *Sequencer*: one process.  A tick costs it a fixed time, a message another.  Every ``FLUSH_S`` it
  sends one message to each shard that has ticks then.
- *Broker*: its work is messages, of all streams together, in the order of their arrival; what one
  costs is measured, syncing and copying included.
- *Portfolio*: one process that reads every fill; a fill costs it a fixed time, a commit another.
- Arrivals are Poisson, and bursts are Poisson, too: a burst multiplies a second by ``BURST``.
- *Failover*: the broker stands still for the measured time, and everything queues; without bursts.

The queue is Lindley's recursion over slices of ``SLICE_S``: what is queued, plus what comes, minus
what can be served.
"""

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

HERE: Final = Path(__file__).parent
SEED: Final = 15
SHARDS: Final = (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
SLICE_S: Final = 0.01
SECONDS: Final = 120
FLUSH_S: Final = 0.02
SLOW_FLUSH_S: Final = 0.2
"""The lever: fewer and larger messages, for so much more latency at most."""
BURST, BURSTS_PER_MINUTE = 5.0, 2.0
TICKS_PER_SHARD_S: Final = 1000.0
"""What one shard gets on average: an active symbol or some quiet ones."""
ORDERS_PER_TICK: Final = 0.02
"""A twentieth to a fiftieth of the ticks are orders (issue 14: 2 to 4 %)."""
TICKS_PER_MESSAGE_MAX: Final = 2048
FAILOVER_AT_S: Final = 20.0

Floats = npt.NDArray[np.float64]


class Costs(NamedTuple):
    """Measured; seconds of one server."""

    tick_s: float
    message_s: float
    broker_message_s: float
    fill_s: float
    commit_s: float
    stall_s: float


class Load(NamedTuple):
    """A second of one part, on average: the share of its time that is used."""

    sequencer: float
    broker: float
    portfolio: float

    def first(self) -> str:
        """Who is nearest to its end."""
        return max(zip(self, self._fields, strict=True))[1]


def costs_of(measured: dict[str, Any]) -> Costs:
    """From the file; the broker's rate is that of three copies, over several streams."""
    rate = measured["r3_messages_per_s_8_streams"]
    return Costs(
        tick_s=measured["split_ns_200_shards"] / 1e9,
        message_s=measured["r3_client_us_per_message"] / 1e6,
        broker_message_s=1 / rate,
        fill_s=(
            measured["portfolio_fill_us"] + measured["portfolio_judge_us_per_changed_holding"]
        ) / 1e6,
        commit_s=measured["portfolio_commit_ms"] / 1e3,
        stall_s=measured["leader_loss_stall_s"],
    )  # fmt: skip


def feed_messages_s(shards: int, flush_s: float = FLUSH_S) -> float:
    """Messages of ticks a second: small ones, if a flush brings a shard few ticks."""
    per_flush = TICKS_PER_SHARD_S * flush_s
    sent = 1 - np.exp(-per_flush) + per_flush / TICKS_PER_MESSAGE_MAX
    return float(shards * sent / flush_s)


def out_messages_s(shards: int) -> float:
    """Orders and fills a second; each is one message."""
    return 2 * shards * TICKS_PER_SHARD_S * ORDERS_PER_TICK


def load_of(shards: int, costs: Costs, flush_s: float = FLUSH_S) -> Load:
    """Utilisation; 1 is all of it.  The portfolio commits what has come during a commit."""
    fills = shards * TICKS_PER_SHARD_S * ORDERS_PER_TICK
    commits = min(shards * (1 - np.exp(-fills / shards * costs.commit_s)), 1.0 / costs.commit_s)
    feed = feed_messages_s(shards, flush_s)
    return Load(
        sequencer=shards * TICKS_PER_SHARD_S * costs.tick_s + feed * costs.message_s,
        broker=(feed + out_messages_s(shards)) * costs.broker_message_s,
        portfolio=fills * costs.fill_s + float(commits) * costs.commit_s * 0.5,
    )


def bursts(rng: np.random.Generator, slices: int) -> Floats:
    """By what each slice's arrivals are multiplied; 1 on average."""
    seconds = rng.random(SECONDS) < BURSTS_PER_MINUTE / 60
    factors = np.where(np.repeat(seconds, int(1 / SLICE_S))[:slices], BURST, 1.0)
    return factors / factors.mean()


def waits(
    rng: np.random.Generator,
    rate_s: float,
    cost_s: float,
    stall: tuple[float, float],
    *,
    bursty: bool = True,
) -> Floats:
    """Seconds that a message waits that comes in each slice.

    ``stall``: from when on, and for how long, nothing is served.
    """
    slices = int(SECONDS / SLICE_S)
    factors = bursts(rng, slices) if bursty else np.ones(slices)
    arrive = rng.poisson(rate_s * SLICE_S * factors).astype(np.float64)
    at_s = np.arange(slices) * SLICE_S
    served = np.where((at_s >= stall[0]) & (at_s < stall[0] + stall[1]), 0.0, SLICE_S / cost_s)
    queue, found = 0.0, np.empty(slices)
    for index in range(slices):
        queue = max(0.0, queue + arrive[index] - served[index])
        found[index] = queue * cost_s
    remaining = np.maximum(0.0, stall[0] + stall[1] - at_s) * (at_s >= stall[0])
    return found + remaining * (found > 0)


def largest(costs: Costs, part: str, flush_s: float = FLUSH_S, most: float = 0.7) -> int:
    """How many shards one of a part serves, used to at most that share."""
    counts = np.unique(np.round(np.logspace(0, 5, 5001)).astype(int))
    fitting = [n for n in counts if getattr(load_of(int(n), costs, flush_s), part) <= most]
    return int(max(fitting, default=0))


def results(measured: dict[str, Any]) -> dict[str, Any]:
    """Everything that the page shows."""
    costs = costs_of(measured)
    found: dict[str, Any] = {"costs": costs._asdict(), "loads": {}, "p99_s": {}, "failover": {}}
    for shards in SHARDS:
        load = load_of(shards, costs)
        found["loads"][shards] = load._asdict() | {"first": load.first()}
        rng = np.random.default_rng([SEED, shards])
        rates = {
            "broker": (feed_messages_s(shards) + out_messages_s(shards), costs.broker_message_s),
            "portfolio": (out_messages_s(shards) / 2, costs.fill_s),
        }
        found["p99_s"][shards] = {
            # Above its capacity a queue has no percentile: it grows until the end.
            part: float(np.percentile(waits(rng, rate, cost, (0.0, 0.0)), 99))
            if rate * cost < 1
            else None
            for part, (rate, cost) in rates.items()
        }
    for shards in (20, 100, 10_000):
        # With as many brokers as keep each of them at half of what it can.
        brokers = max(1, int(np.ceil(load_of(shards, costs).broker / 0.5)))
        rate = (feed_messages_s(shards) + out_messages_s(shards)) / brokers
        rng = np.random.default_rng([SEED, shards, 1])
        stall = (FAILOVER_AT_S, costs.stall_s)
        line = waits(rng, rate, costs.broker_message_s, stall, bursty=False)
        usual = float(np.percentile(line[: int(FAILOVER_AT_S / SLICE_S)], 99))
        served_from = int((FAILOVER_AT_S + costs.stall_s) / SLICE_S) + 1
        calm = np.nonzero(line[served_from:] <= 2 * usual + 0.01)[0]
        over = costs.stall_s + float(calm[0]) * SLICE_S
        found["failover"][shards] = {
            "broker_groups": brokers, "longest_wait_s": float(line.max()), "over_after_s": over,
            "line": line[:: int(0.1 / SLICE_S)].round(4).tolist(),
        }  # fmt: skip
    for name, flush_s in (("", FLUSH_S), ("_slow_flush", SLOW_FLUSH_S)):
        found[f"shards_at_70_percent{name}"] = {
            part: largest(costs, part, flush_s) for part in Load._fields
        }
    return found


def main() -> None:
    """Compute, write ``figures.json``, draw."""
    from tests.bench.plan.plots import draw

    measured = json.loads((HERE / "measured.json").read_text())
    found = results(measured)
    draw(found, HERE / "plots")
    for part in found["failover"].values():
        del part["line"]
    (HERE / "figures.json").write_text(json.dumps(found, indent=1) + "\n")
    print(found["shards_at_70_percent"], found["shards_at_70_percent_slow_flush"])


if __name__ == "__main__":
    main()
