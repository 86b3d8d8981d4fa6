"""How long nothing is stored when the leader of a stream dies.

``python -m tests.bench.bus.stall [--deaths N]``: three brokers, a sequencer at 200 ticks/s, and the
publisher of an order manager that takes 200 orders/s.  The leader of one of their streams is
killed, and comes back after 20 s.  A stall is the longest time between two messages that follow
each other in the stream, as the brokers have stamped them.
"""

import argparse
import itertools
import tempfile
import threading
import time
from pathlib import Path

from app.bus.link import names
from tests.app.bus.feed.running import Feed
from tests.support.bus.broker import Cluster, cluster
from tests.support.bus.reading import read_stream
from tests.support.bus.shard import ShardProcess
from tests.support.children import eventually
from tests.support.orders.frames import ORDER
from tests.support.orders.process import OrderManagerProcess

PER_S = 200
DOWN_S, BETWEEN_S = 20.0, 5.0
STREAMS = {"publisher": names.out_stream("a"), "sequencer": names.md_stream("a")}


def send_orders(manager: OrderManagerProcess, ended: threading.Event) -> None:
    """One after the other, until it is over."""
    with manager.client() as client:
        for number in itertools.count():
            side = ("BUY", "SELL")[number % 2]
            client.ask({**ORDER, "side": side, "id": number, "client": "bench"})
            if ended.wait(1 / PER_S):
                return


def deaths(bus: Cluster, count: int) -> list[tuple[str, float]]:
    """Kill leaders, one stream's after the other's; returns whose, and when (wall clock)."""
    found = []
    for _ in range(count):
        for stream in STREAMS.values():
            leader = bus.leader(stream)
            found.append((stream, time.time()))
            leader.kill()
            time.sleep(DOWN_S)
            leader.start()
            bus.wait_ready()
            time.sleep(BETWEEN_S)
    return found


def stall_s(stored_s: list[float], died_s: float) -> float:
    """The longest time without a message, of those that ended while the leader was down."""
    pairs = itertools.pairwise(stored_s)
    return max(after - before for before, after in pairs if died_s < after < died_s + DOWN_S)


def measure(folder: Path, count: int) -> dict[str, list[float]]:
    """Stalls in seconds, of each writer."""
    ended = threading.Event()
    with cluster(3) as bus, OrderManagerProcess(folder) as manager:
        feed = Feed(folder / "feed", bus, replay="walk", pace=f"{PER_S}/s")
        client = threading.Thread(target=send_orders, args=(manager, ended))
        try:
            with ShardProcess(bus, manager) as shard:
                client.start()
                feed.start()
                shard.wait_published(PER_S)
                eventually(lambda: feed.count("a") > PER_S, "ticks are stored", 60, poll_s=0.5)
                killed = deaths(bus, count)
        finally:
            ended.set()
            feed.close()
            if client.ident:
                client.join()
        times = {s: [m.stored_s for m in read_stream(bus, s)] for s in STREAMS.values()}
    return {
        who: [stall_s(times[stream], at_s) for of, at_s in killed if of == stream]
        for who, stream in STREAMS.items()
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--deaths", type=int, default=5, help="of each stream's leader")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), parser.parse_args().deaths)
    for who, stalls in found.items():
        print(f"{who:10} {' '.join(f'{s:.1f}' for s in sorted(stalls))} s without a stored message")


if __name__ == "__main__":
    main()
