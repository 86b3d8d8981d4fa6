"""Brokers with the users of images/cluster/accounts.py."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

from app.bus.link.access import bus_access
from app.bus.link.connection import Link
from app.bus.outbox.setup import make_all
from app.config.settings import Settings
from tests.support.bus.broker import Cluster, cluster
from tests.support.paths import ROOT

T = TypeVar("T")


class Bus:
    """A running cluster of shards ``a`` and ``b``, with TLS, its streams made."""

    def __init__(self, brokers: Cluster, folder: Path) -> None:
        self.cluster, self._folder = brokers, folder

    def creds(self, user: str) -> Path:
        """The user's file for BUS_CREDS."""
        return self._folder / "creds" / user

    def settings(self, user: str) -> dict[str, str]:
        """Settings of a process that is this user."""
        own = user in ("setup", "portfolio", "sequencer", "monitor")
        return {"BUS_CREDS": str(self.creds(user)), "BUS_API": "$JS.API" if own else "BUS.API"}

    def as_user(self, user: str, work: Callable[[Link], Awaitable[T]]) -> T:
        """Do something over a connection of this user; of nobody if it is empty."""
        more = self.settings(user) if user else {}

        async def run() -> T:
            settings = Settings.from_environ(self.cluster.environ(**more))
            async with await Link.open(bus_access(settings), user or "nobody") as link:
                return await work(link)

        return asyncio.run(run())


@contextlib.contextmanager
def bus_with_accounts(folder: Path, servers: int = 1) -> Iterator[Bus]:
    """A :class:`Bus` that does not outlive the block."""
    script = ROOT / "images/cluster/accounts.py"
    subprocess.run([sys.executable, script, folder, "a", "b"], check=True)
    text = (folder / "accounts.conf").read_text()
    with cluster(servers, tls=True, accounts=text) as brokers:
        bus = Bus(brokers, folder)
        bus.as_user("setup", lambda link: make_all(link, ("a", "b"), brokers.replicas))
        yield bus
