"""The feed through the bus, beside core NATS and direct TCP: ticks a second, and added latency.

``python -m tests.bench.bus [--ticks N] [--servers 1 3]`` starts brokers of its own, sends the same
batches in four ways, and prints one table; compare the ratios of one run.  Sender and receiver are
two processes.  Latency is that of a batch of ten ticks, 200 a second, from before it is sent until
it has arrived; JetStream has then stored it, with an fsync (``sync_interval: always``).

Then the whole way: a sequencer that divides a feed of two shards, and a gateway without recording
that reads a shard's stream from its beginning, checks it, and records it.
"""

import argparse
import asyncio
import csv
import json
import multiprocessing
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from app.bus.feed.choice import Wanted
from app.bus.feed.publisher import Publisher
from app.bus.feed.pull import pull
from app.bus.feed.sequencer import Sequencer
from app.bus.link import names, streams
from app.bus.link.access import bus_access
from app.bus.link.connection import Link
from app.bus.shard_map import load
from app.config.settings import Settings
from app.market_data.live.bus.batch import Begin, Kind, Message, encode_begin
from app.market_data.live.bus.opening import begin_bus_recording
from app.market_data.live.exchange.supervised import ReceiverDied
from app.market_data.sources.loader import open_feed
from tests.support.bus.broker import Cluster, cluster
from tests.support.paths import ROOT

TICK = b"2025-10-01 09:30:00*AAPL*170.25*"
BATCH_TICKS, SMALL_TICKS = 2048, 10
LATENCY_EVERY_S, LATENCY_COUNT = 0.005, 400
FLUSH_EVERY = 32
LENGTH = struct.Struct("<I")
Times = list[int]
Way = tuple[str, Callable[[str, int, Connection], Coroutine[Any, Any, None]]]


def settings_of(broker: Cluster, **values: object) -> Settings:
    """The settings of a process on this broker."""
    room = {"BUS_FEED_BYTES_MAX": 4 << 30}
    more = {name.upper(): value for name, value in values.items()}
    return Settings.from_environ(broker.environ(**room | more))


# ---- receivers, each in a process of its own: "ready", then when each message has arrived


async def receive_tcp(port: str, count: int, pipe: Connection) -> None:
    """Messages with a length before them."""
    times: Times = []
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(times) < count:
            size = LENGTH.unpack(await reader.readexactly(LENGTH.size))[0]
            await reader.readexactly(size)
            times.append(time.monotonic_ns())
        writer.close()
        done.set()

    server = await asyncio.start_server(serve, "127.0.0.1", int(port), limit=1 << 20)
    pipe.send("ready")
    await done.wait()
    server.close()
    pipe.send(times)


async def receive_core(url: str, count: int, pipe: Connection) -> None:
    """A subscription of core NATS: nothing is stored."""
    times: Times = []
    async with await Link.open(bus_access(Settings(bus_url=url)), "bench") as link:
        subscription = await link.client.subscribe("bench")
        await link.client.flush()
        pipe.send("ready")
        while len(times) < count:
            await subscription.next_msg(60)
            times.append(time.monotonic_ns())
    pipe.send(times)


async def receive_stream(url: str, count: int, pipe: Connection) -> None:
    """The pull consumer of a gateway."""
    times: Times = []
    async with await Link.open(bus_access(Settings(bus_url=url)), "bench") as link:
        pipe.send("ready")
        async for _ in pull(link, "bench", await _last(link)):
            times.append(time.monotonic_ns())
            if len(times) == count:
                break
    pipe.send(times)


async def _last(link: Link) -> int:
    info = await link.js.stream_info(names.md_stream("bench"))
    return info.state.last_seq


def _run(what: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
    asyncio.run(what(*arguments))


# ---- senders: the same batches; returns when each was sent


Send = Callable[[bytes], Coroutine[Any, Any, None]]


async def send_all(send: Send, ticks: int, count: int, every_s: float) -> Times:
    """Send ``count`` batches of ``ticks``, one in ``every_s`` seconds, or as fast as they go."""
    body, times = TICK * ticks, []
    due_s = time.monotonic()
    for _ in range(count):
        if every_s:
            due_s += every_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        times.append(time.monotonic_ns())
        await send(body)
    return times


async def over_tcp(port: str, ticks: int, count: int, every_s: float) -> Times:
    """Direct."""
    _, writer = await asyncio.open_connection("127.0.0.1", int(port))
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def send(body: bytes) -> None:
        writer.write(LENGTH.pack(len(body)) + body)
        await writer.drain()

    times = await send_all(send, ticks, count, every_s)
    writer.close()
    return times


async def over_core(url: str, ticks: int, count: int, every_s: float) -> Times:
    """Through the broker, not stored; flushed now and then, so that nothing is dropped."""
    sent = 0
    async with await Link.open(bus_access(Settings(bus_url=url)), "bench") as link:

        async def send(body: bytes) -> None:
            nonlocal sent
            sent += 1
            await link.client.publish("bench", body)
            if sent % FLUSH_EVERY == 0:
                await link.client.flush()

        times = await send_all(send, ticks, count, every_s)
        await link.client.flush()
    return times


async def over_stream(url: str, ticks: int, count: int, every_s: float) -> Times:
    """As the sequencer does."""
    async with await Link.open(bus_access(Settings(bus_url=url)), "bench") as link:
        publisher = Publisher("bench", "bench", "bench")
        publisher.place = await _last(link)

        async def send(body: bytes) -> None:
            message = Message(Kind.TICKS, "bench", 1, 0, ticks, 0, body, len(body))
            await publisher.publish(link, message)

        times = await send_all(send, ticks, count, every_s)
        await publisher.settle(link)
    return times


def measure(way: str, where: str, ticks: int, count: int, every_s: float) -> tuple[Times, Times]:
    """Send and receive; when each message was sent, and when it arrived."""
    receive = {"tcp": receive_tcp, "core": receive_core, "stream": receive_stream}[way]
    send = {"tcp": over_tcp, "core": over_core, "stream": over_stream}[way]
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(receive, where, count, theirs), daemon=True)
    process.start()
    try:
        if not ours.poll(60):
            raise RuntimeError(f"{way}: the receiver is not ready")
        ours.recv()
        time.sleep(0.2)
        sent = asyncio.run(send(where, ticks, count, every_s))
        if not ours.poll(120):
            raise RuntimeError(f"{way}: not everything has arrived")
        return sent, ours.recv()
    finally:
        process.kill()
        process.join()


def row(name: str, way: str, where: str, ticks: int) -> dict[str, Any]:
    """One line of the table."""
    count = max(1, ticks // BATCH_TICKS)
    sent, arrived = measure(way, where, BATCH_TICKS, count, 0)
    rate = count * BATCH_TICKS / ((arrived[-1] - sent[0]) / 1e9)
    sent, arrived = measure(way, where, SMALL_TICKS, LATENCY_COUNT, LATENCY_EVERY_S)
    delays = sorted(b - a for a, b in zip(sent, arrived, strict=True))
    return {
        "way": name,
        "ticks_per_s": rate,
        "p50_us": delays[len(delays) // 2] / 1e3,
        "p99_us": delays[len(delays) * 99 // 100] / 1e3,
    }


def free_port() -> str:
    """A port that is free just now."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return str(listener.getsockname()[1])


# ---- the whole way


def long_file(folder: Path, ticks: int) -> Path:
    """The sample's ticks, again and again on later days."""
    path = folder / "long.csv"
    with (ROOT / "data/market_data.csv").open() as file:
        rows = list(csv.reader(file))
    with path.open("w") as out:
        out.write("timestamp,symbol,price\n")
        for day in range(max(1, ticks // (len(rows) - 1))):
            date = f"{2000 + day // 336:04}-{day // 28 % 12 + 1:02}-{day % 28 + 1:02}"
            out.writelines(f"{date}{row[0][10:]},{row[1]},{row[2]}\n" for row in rows[1:])
    return path


def whole_way(broker: Cluster, folder: Path, ticks: int) -> Iterator[tuple[str, float]]:
    """Ticks a second of sequencer and recovery."""
    symbols = open_feed(Settings(replay="once")).symbols
    shards = {"a": symbols[::2], "b": symbols[1::2]}
    (folder / "map.json").write_text(json.dumps({"version": 1, "shards": shards}))
    settings = settings_of(
        broker,
        data_path=long_file(folder, ticks),
        shard_map=folder / "map.json",
        replay="once",
        pace="max",
    )
    feed, path = open_feed(settings), settings.shard_map
    wanted = Wanted(load(path), path, (), feed.symbols)
    sequencer = Sequencer(settings, bus_access(settings), feed, wanted, lambda: False)
    begun_s = time.monotonic()
    asyncio.run(sequencer.run())
    yield "sequencer, two shards", feed.total / (time.monotonic() - begun_s)
    gateway = settings_of(broker, data_path="nats://md.a", output_dir=folder, run_id="recovery")
    begun_s = time.monotonic()
    recorded, session = begin_bus_recording(gateway, lambda: False, lambda: None)
    assert session is not None
    connected_s = time.monotonic()
    try:
        while not session.ended:
            try:
                if session.take() is None:
                    time.sleep(0.0005)
            except ReceiverDied as error:
                raise RuntimeError("the receiver died") from error
    finally:
        session.close()
    yield "recovery of a shard, recorded", recorded.total / (time.monotonic() - connected_s)
    yield "   with the start of its receiver", recorded.total / (time.monotonic() - begun_s)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ticks", type=int, default=4_000_000, help="ticks of each throughput")
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 3], choices=[1, 3])
    arguments = parser.parse_args()
    rows = [row("direct TCP", "tcp", free_port(), arguments.ticks)]
    ways: list[tuple[str, float]] = []
    for servers in arguments.servers:
        with cluster(servers) as broker, tempfile.TemporaryDirectory() as folder:
            if len(rows) == 1:
                rows.append(row("core NATS", "core", broker.url, arguments.ticks))
            asyncio.run(_make_stream(broker))
            name = f"JetStream, {servers} cop{'ies' if servers > 1 else 'y'}"
            rows.append(row(name, "stream", broker.url, arguments.ticks))
            for what, rate in whole_way(broker, Path(folder), arguments.ticks):
                ways.append((f"{what}, {servers} server{'s' if servers > 1 else ''}", rate))
    print(f"{'':34}{'ticks/s':>12}{'ratio':>7}{'p50 us':>9}{'p99 us':>9}{'ratio p50':>11}")
    for each in rows:
        print(
            f"{each['way']:34}{each['ticks_per_s']:>12,.0f}"
            f"{each['ticks_per_s'] / rows[0]['ticks_per_s']:>7.2f}{each['p50_us']:>9,.0f}"
            f"{each['p99_us']:>9,.0f}{each['p50_us'] / rows[0]['p50_us']:>11.1f}"
        )
    for what, rate in ways:
        print(f"{what:46}{rate:>12,.0f}{rate / rows[0]['ticks_per_s']:>7.2f}")


async def _make_stream(broker: Cluster) -> None:
    settings = settings_of(broker)
    async with await Link.open(bus_access(settings), "bench") as link:
        await streams.ensure(link, streams.md("bench"), settings.bus_replicas)
        publisher = Publisher("bench", "bench", "bench")
        begin = Begin("bench", "bench", ["AAPL"], "bench")
        message = Message(Kind.BEGIN, "bench", 1, 0, 0, 0, encode_begin(begin))
        await publisher.publish(link, message)
        await publisher.settle(link)


if __name__ == "__main__":
    main()
