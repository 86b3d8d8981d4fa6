"""A portfolio as a process of its own, and shards that publish to it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Self

from app.bus.link import names, streams
from app.bus.link.access import bus_access
from app.bus.link.connection import BusUnavailable, Link
from app.config.settings import Settings
from tests.app.portfolio.fill_messages import Told
from tests.support.bus.broker import Cluster
from tests.support.children import eventually
from tests.support.environ import default_environ
from tests.support.paths import ROOT
from tests.support.ports import free_ports

Headers = dict[str, str]


class PortfolioProcess:
    """Started on a folder that outlives it; a context that ends it."""

    def __init__(self, bus: Cluster, folder: Path, **settings: object) -> None:
        (self.port,) = free_ports(1)
        self.folder, self.log = folder, folder / "portfolio.log"
        self.books = folder / "portfolio.sqlite3"
        more = {"portfolio_port": self.port, "output_dir": folder, **settings}
        self.environ = default_environ() | bus.environ()
        self.environ |= {name.upper(): str(value) for name, value in more.items()}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; on the books that it has."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.portfolio"], cwd=ROOT, env=self.environ, stderr=log,
                stdout=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def end(self, how: signal.Signals = signal.SIGKILL) -> int:
        """End it by a signal; returns its exit code."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(how)
        return process.wait(20)

    def get(self, path: str, headers: Headers | None = None) -> tuple[int, bytes]:
        """Status and body of an answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def state(self) -> dict[str, Any]:
        """What ``/state`` has."""
        return json.loads(self.get("/state")[1])

    def wait(self, met: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Wait until the state is such; the state, then."""
        seen: list[Any] = [None]

        def look() -> bool:
            assert self.process is None or self.process.poll() is None, self.text()
            try:
                seen[0] = self.state()
            except OSError:
                return False
            return met(seen[0])

        eventually(look, what, 40.0, poll_s=0.05)
        return seen[0]

    def wait_level(self, fills: int) -> dict[str, Any]:
        """Wait until it has so many fills, and all of every stream."""

        def level(state: dict[str, Any]) -> bool:
            shards = state["shards"]
            return (
                sum(each["fills"] for each in shards) == fills
                and all(each["reading"] and not each["pending"] for each in shards)
                and not state["unsent"]
            )

        return self.wait(level, f"the portfolio has {fills} fills")

    def text(self) -> str:
        """Its log."""
        return self.log.read_text()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process is not None:
            self.end()


def on_bus(bus: Cluster, work: Callable[[Link], Coroutine[Any, Any, Any]]) -> Any:
    """Do something on a connection of one's own, again while the bus cannot be reached."""
    settings = Settings.from_environ(bus.environ())

    async def run() -> Any:
        while True:
            try:
                async with await Link.open(bus_access(settings), "test") as link:
                    return await work(link)
            except (BusUnavailable, OSError, TimeoutError):
                await asyncio.sleep(0.1)

    return asyncio.run(run())


def make_streams(bus: Cluster, shards: Iterable[str]) -> None:
    """The streams of some shards."""

    async def make(link: Link) -> None:
        for shard in shards:
            await streams.ensure(link, streams.out(shard), bus.replicas)

    on_bus(bus, make)


def publish(bus: Cluster, fills: Iterable[Told]) -> None:
    """Publish fills in their order; what the broker may have lost is published again."""
    left = list(fills)

    async def send(link: Link) -> None:
        while left:
            subject, headers = names.fills_subject(left[0].shard), {names.MARKS: left[0].marks}
            try:
                await link.js.publish(subject, left[0].message(), headers=headers)
            except Exception as error:
                raise BusUnavailable(str(error)) from None
            left.pop(0)

    on_bus(bus, send)


def beat(bus: Cluster, shard: str, **members: float) -> None:
    """A heartbeat of a shard's publisher."""

    async def send(link: Link) -> None:
        await link.client.publish(names.heartbeat_subject(shard), json.dumps(members).encode())
        await link.client.flush()

    on_bus(bus, send)


def publishing(bus: Cluster, fills: Iterable[Told]) -> threading.Thread:
    """The same beside the test; join it."""
    thread = threading.Thread(target=publish, args=(bus, fills))
    thread.start()
    return thread


def controls(bus: Cluster) -> list[tuple[str, dict[str, Any]]]:
    """Subject and message of all that is on CONTROL."""

    async def read(link: Link) -> list[tuple[str, dict[str, Any]]]:
        info = await link.js.stream_info(names.CONTROL_STREAM)
        last = info.state.last_seq
        got = [await link.js.get_msg(names.CONTROL_STREAM, seq) for seq in range(1, last + 1)]
        return [(each.subject or "", json.loads(each.data or b"")) for each in got]

    return on_bus(bus, read)


def environ_of(portfolio: PortfolioProcess) -> dict[str, str]:
    """For a health check beside it."""
    return {**os.environ, **portfolio.environ}
