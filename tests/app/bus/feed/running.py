"""A broker, a sequencer on it, and the stacks of shards that read it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from nats.js.errors import NotFoundError

from app.bus.feed.map_log import MapLog, read_on
from app.bus.link import names
from app.bus.link.access import bus_access
from app.bus.link.connection import Link
from app.config.settings import Settings
from app.market_data.live.bus.batch import Message, decode
from tests.chaos.host import HostStack
from tests.support.bus.broker import Cluster
from tests.support.environ import default_environ
from tests.support.paths import ROOT

SAMPLE = ROOT / "data/market_data.csv"
SHARDS = {
    "a": ["KO", "NVDA", "META", "MSFT", "XOM"],
    "b": ["AAPL", "AMZN", "F", "INTC", "JPM"],
}


class Feed:
    """What a sequencer is given; several of them may run."""

    def __init__(self, folder: Path, broker: Cluster, **settings: object) -> None:
        self.folder, self.broker = folder, broker
        self.map_path = folder / "shards.json"
        self.write_map({"version": 1, "shards": SHARDS})
        self.environ = {
            **default_environ(),
            **broker.environ(SHARD_MAP=self.map_path),
            "DATA_PATH": str(SAMPLE),
            "OUTPUT_DIR": str(folder),
            "REPLAY": "once",
            "PACE": "max",
            "RECONNECT_DELAY_MS": "20",
            "RECONNECT_DELAY_MS_MAX": "100",
            **{name.upper(): str(value) for name, value in settings.items()},
        }
        self._started: list[subprocess.Popen[str]] = []

    def write_map(self, value: object) -> None:
        """The file of SHARD_MAP."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.map_path.write_text(json.dumps(value))

    def start(self, *arguments: str, **settings: object) -> subprocess.Popen[str]:
        """Start a sequencer; its log is in ``log_path``."""
        more = {name.upper(): str(value) for name, value in settings.items()}
        with self.log_path.open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "app.bus", "sequence", *arguments],
                cwd=ROOT,
                env=self.environ | more,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
            )
        self._started.append(process)
        return process

    def sequence(self, *arguments: str, **settings: object) -> int:
        """Run a sequencer to its end; returns its exit code."""
        return self.start(*arguments, **settings).wait(60)

    def move(self, name: str, to: str) -> subprocess.CompletedProcess[str]:
        """``python -m app.bus move``."""
        return subprocess.run(
            [sys.executable, "-m", "app.bus", "move", name, "--to", to],
            cwd=ROOT,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def log_path(self) -> Path:
        """The log of all sequencers."""
        return self.folder / "sequencer.log"

    @property
    def log(self) -> str:
        """What they have said."""
        return self.log_path.read_text() if self.log_path.exists() else ""

    def talk(self, what: Callable[[Link], Coroutine[Any, Any, Any]]) -> Any:
        """Do something with a connection of our own."""

        async def connected() -> Any:
            access = bus_access(Settings.from_environ(self.environ))
            async with await Link.open(access, "test") as link:
                return await what(link)

        return asyncio.run(connected())

    def messages(self, shard: str) -> list[tuple[Message, dict[str, str]]]:
        """All messages of a shard's stream, with their headers."""

        async def read(link: Link) -> list[tuple[Message, dict[str, str]]]:
            stream = names.md_stream(shard)
            try:
                last = await link.js.get_last_msg(stream, names.md_subject(shard))
            except NotFoundError:
                return []
            found = []
            for place in range(1, (last.seq or 0) + 1):
                each = await link.js.get_msg(stream, place)
                headers = dict(each.headers or {})
                found.append((decode(headers, each.data or b""), headers))
            return found

        result: list[tuple[Message, dict[str, str]]] = self.talk(read)
        return result

    def count(self, shard: str) -> int:
        """How many messages a shard's stream has."""

        async def last(link: Link) -> int:
            try:
                found = await link.js.get_last_msg(names.md_stream(shard), names.md_subject(shard))
            except NotFoundError:
                return 0
            return found.seq or 0

        result: int = self.talk(last)
        return result

    def maps(self) -> MapLog:
        """The stream MAP."""

        async def read(link: Link) -> MapLog:
            maps = MapLog()
            await read_on(link, maps)
            return maps

        result: MapLog = self.talk(read)
        return result

    def stack(self, shard: str, folder: str = "", **settings: object) -> HostStack:
        """The four processes of a shard."""
        values: dict[str, Any] = {
            **self.broker.environ(),
            "data_path": f"nats://md.{shard}",
            "heartbeat_timeout_s": 1.0,
            "reconnect_delay_ms": 20,
            "reconnect_delay_ms_max": 100,
            "dashboard_port": 0,
            **settings,
        }
        return HostStack(self.folder / (folder or f"shard-{shard}"), **values)

    def close(self) -> None:
        """End what still runs."""
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()


def frames(messages: list[tuple[Message, dict[str, str]]]) -> bytes:
    """The price frames of a stream."""
    return b"".join(message.body[: message.price_bytes] for message, _ in messages)


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL."""
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
