"""What the plan is computed from, measured on this machine: ``measured.json``.

``python -m tests.bench.plan.measure`` takes about two minutes, with nothing else running.
"""

import asyncio
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from app.bus.feed.split import Change, Cursor, Splitter
from app.bus.link import names, streams
from app.bus.link.access import bus_access
from app.bus.link.connection import Link
from app.bus.shard_map import ShardMap
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.portfolio.books import Books
from app.portfolio.fills import decode_fill
from app.portfolio.limits import values_of
from app.portfolio.service import Message, Portfolio
from app.portfolio.state import State
from tests.app.portfolio.fill_messages import NOON_NS, Told
from tests.support.bus.broker import Cluster, cluster

FILE: Final = Path(__file__).with_name("measured.json")
FILLS: Final = 50_000
SYMBOLS: Final = 1000
MESSAGES: Final = 3000
STALL_S: Final = 20.0
TICKS: Final = 200_000


def fills(count: int, symbols: int) -> list[bytes]:
    """Messages of one shard."""
    return [
        Told(fill_no=n + 1, symbol=f"S{n % symbols}", side="BUY" if n % 2 else "SELL").message()
        for n in range(count)
    ]


def seconds(work: Callable[[], Any]) -> float:
    """The processor's time that it takes, the best of three."""
    times = []
    for _ in range(3):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def measure_books() -> dict[str, float]:
    """Of the portfolio's processor: decode and apply, judge, one transaction."""
    data = fills(FILLS, SYMBOLS)

    def apply() -> Books:
        books = Books()
        for each in data:
            books.apply("a", decode_fill(each))
        return books

    books, prices = apply(), [{f"S{n}": 10**9 + up for n in range(SYMBOLS)} for up in range(3)]

    def judge() -> None:
        books.set_market(prices[0], NOON_NS)
        prices.append(prices.pop(0))
        values_of(books.total())

    judged = seconds(judge)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        state = State(os.path.join(folder, "portfolio.sqlite3"))
        portfolio = Portfolio(state, [], lambda: NOON_NS)
        times = []
        for batch in range(40):
            start = time.perf_counter()
            portfolio.take("a", [Message(batch + 1, data[batch])])
            times.append(time.perf_counter() - start)
        state.close()
    return {
        "portfolio_fill_us": seconds(apply) / FILLS * 1e6,
        "portfolio_judge_us_per_changed_holding": judged / SYMBOLS * 1e6,
        "portfolio_commit_ms": float(np.median(times)) * 1e3,
    }


def measure_split() -> dict[str, float]:
    """The sequencer's processor, without the broker: ns a tick, by the number of shards."""
    settings = Settings(data_path="data/market_data.csv", replay="loop")
    feed = open_feed(settings)
    found = {}
    for shards in (2, 20, 200):
        symbols = list(feed.symbols)
        names_of = {f"s{n}": symbols[n::shards] for n in range(shards)}
        history = [Change(0, ShardMap.of({"version": 1, "shards": names_of}))]

        def split(shards: int = shards, history: list[Change] = history) -> None:
            splitter = Splitter(feed, "run", history)
            cursors = [Cursor(f"s{n}", 0, 0, 1) for n in range(shards)]
            for until in range(65_536, TICKS, 65_536):
                for cursor in cursors:
                    for _ in splitter.messages(cursor, until):
                        pass

        found[f"split_ns_{shards}_shards"] = seconds(split) / (TICKS // 65_536 * 65_536) * 1e9
    return found


class Published(NamedTuple):
    """``waits_s``: from sending to acknowledgment, of each; ``processor_s``: of this process."""

    waits_s: list[float]
    seconds: float
    processor_s: float


async def publish(bus: Cluster, count: int, in_flight: int, subjects: int) -> Published:
    """Publish fills to as many streams, so many of them not acknowledged yet."""
    settings = Settings.from_environ(bus.environ(BUS_ORDERS_BYTES_MAX=1 << 30))
    async with await Link.open(bus_access(settings), "plan") as link:
        for n in range(subjects):
            await streams.ensure(link, streams.out(f"s{n}"), bus.replicas)
        room, times = asyncio.Semaphore(in_flight), []

        async def one(n: int) -> None:
            subject = names.fills_subject(f"s{n % subjects}")
            async with room:
                start = time.perf_counter()
                await link.js.publish(subject, Told(fill_no=n + 1).message())
                times.append(time.perf_counter() - start)

        start, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*(one(n) for n in range(count)))
        return Published(times, time.perf_counter() - start, time.process_time() - used)


def measure_broker(servers: int) -> dict[str, float]:
    """Messages a second and latency, synced to the disk; with three servers, three copies."""
    kind = f"r{servers}"
    with cluster(servers) as bus:
        alone = asyncio.run(publish(bus, 300, 1, 1)).waits_s
        found = {
            f"{kind}_publish_p50_ms": float(np.percentile(alone, 50)) * 1e3,
            f"{kind}_publish_p99_ms": float(np.percentile(alone, 99)) * 1e3,
        }
        for subjects in (1, 8):
            done = asyncio.run(publish(bus, MESSAGES, 256, subjects))
            found[f"{kind}_messages_per_s_{subjects}_streams"] = MESSAGES / done.seconds
            found[f"{kind}_client_us_per_message"] = done.processor_s / MESSAGES * 1e6
        return found


def measure_leader_loss() -> dict[str, float]:
    """The longest pause between two acknowledgments when the stream's leader is killed."""

    async def run(bus: Cluster) -> float:
        settings, longest = Settings.from_environ(bus.environ()), 0.0
        last, killed, number = time.perf_counter(), False, 0
        until = last + STALL_S
        while time.perf_counter() < until:
            try:
                async with await Link.open(bus_access(settings), "plan") as link:
                    await streams.ensure(link, streams.out("s0"), bus.replicas)
                    while time.perf_counter() < until:
                        number += 1
                        told = Told(fill_no=number).message()
                        await link.js.publish(names.fills_subject("s0"), told, timeout=1)
                        now = time.perf_counter()
                        longest, last = max(longest, now - last), now
                        if number == 200 and not killed:
                            killed = True
                            bus.leader(names.out_stream("s0")).kill()
            except Exception:  # whatever a dying server does
                await asyncio.sleep(0.05)
        return longest

    with cluster(3) as bus:
        return {"leader_loss_stall_s": asyncio.run(run(bus))}


def main() -> None:
    """Measure everything, and write the file."""
    found: dict[str, Any] = {"cpus": os.cpu_count(), "machine": platform.machine()}
    steps: list[Callable[[], dict[str, float]]] = [
        measure_books, measure_split, lambda: measure_broker(1), lambda: measure_broker(3),
        measure_leader_loss,
    ]  # fmt: skip
    for step in steps:
        part = {name: round(value, 3) for name, value in step().items()}
        print(part, flush=True)
        found |= part
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
