"""A real orderbook reads the feed of a real gateway on another machine, with token and TLS.

Both run here, with segments of their own.  The address 0.0.0.0 leads to this host, too, but the
orderbook does not know that: it stands for the other machine.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.segment import SegmentMissing
from app.shared_memory_utils.tick_ring import TickRing
from tests.support.certificates import make_certificate
from tests.support.children import SHM, eventually
from tests.support.environ import default_environ
from tests.support.feed_helpers import all_ticks, make_feed, parse_ticks, write_ticks
from tests.support.paths import ROOT
from tests.support.ports import free_ports

pytestmark = pytest.mark.medium

COUNT = 20_000


class Two:
    """Two machines: a gateway on one, an orderbook on the other."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.cert, self.key = make_certificate(folder, names="IP:0.0.0.0")
        (folder / "token").write_text("0123456789abcdef0123456789abcdef")
        price_port, sentiment_port = free_ports(2)
        self.common = {
            **default_environ(),
            "PRICE_PORT": str(price_port),
            "SENTIMENT_PORT": str(sentiment_port),
            "SENTIMENT_SUBSCRIBERS": "0",
            "REPLAY": "once",
            "PACE": "20000/s",
            "RECONNECT_DELAY_MS": "1",
            "RECONNECT_DELAY_MS_MAX": "50",
            "ORDER_TOKEN_FILE": str(folder / "token"),
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, service: str, **settings: str) -> subprocess.Popen[bytes]:
        """Start a process of its own machine; its log is a file."""
        names = ("PRICE_BOOK", "METADATA", "TICK_RING", "METRICS")
        segments = {f"SHM_{each}": f"{self.name}_{service}_{each.lower()}" for each in names}
        with self.log(service).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"app.{service}"],
                cwd=ROOT,
                env={**self.common, **segments, **settings},
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def gateway(self) -> subprocess.Popen[bytes]:
        """The gateway, published and encrypted."""
        return self.start(
            "gateway",
            BIND_HOST="0.0.0.0",
            DATA_PATH=str(self.folder / "feed.csv"),
            ORDER_TLS_CERT_FILE=self.cert,
            ORDER_TLS_KEY_FILE=self.key,
        )

    def orderbook(self, **settings: str) -> subprocess.Popen[bytes]:
        """The orderbook on the other machine."""
        secured = {"GATEWAY_HOST": "0.0.0.0", "ORDER_TLS_CA_FILE": self.cert}
        return self.start("orderbook", **(secured | settings))

    def log(self, service: str) -> Path:
        """The log of a service."""
        return self.folder / f"{service}.log"

    def ticks_written(self) -> int:
        """How many ticks the orderbook has written."""
        try:
            ring = TickRing.attach(f"{self.name}_orderbook_tick_ring")
        except SegmentMissing:
            return 0
        try:
            return ring.state.next_seq
        finally:
            ring.close()


@pytest.fixture
def two(tmp_path: Path, name: str) -> Iterator[Two]:
    write_ticks(tmp_path / "feed.csv", COUNT)
    found = Two(tmp_path, name)
    yield found
    for process in found.processes:
        process.kill()
        process.wait()
    for path in SHM.glob(f"{name}*"):
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_every_tick_arrives_also_over_a_restart_of_the_gateway(two: Two, host: str) -> None:
    if host != "0.0.0.0":
        two.cert, two.key = make_certificate(two.folder, "own")
    gateway = two.gateway()
    two.orderbook(GATEWAY_HOST=host)
    eventually(lambda: two.ticks_written() > COUNT // 10, "some ticks")
    gateway.kill()
    gateway.wait()
    assert two.ticks_written() < COUNT, "killed within the run"
    two.gateway()
    eventually(lambda: two.ticks_written() == COUNT, "every tick")
    feed = make_feed(two.folder / "feed.csv")
    last = {tick.symbol: float(tick.value) for tick in parse_ticks(all_ticks(feed))}
    with SharedPriceBook(name=f"{two.name}_orderbook_price_book", create=False) as book:
        assert book.read_all() == last
    assert "0123456789abcdef" not in two.log("gateway").read_text()
    assert "client_refused" not in two.log("gateway").read_text() or host == "127.0.0.1"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"ORDER_TOKEN_FILE": "wrong"}, "refused by the gateway: wrong token"),
        ({"ORDER_TOKEN_FILE": ""}, "refused by the gateway: the first frame must be AUTH|token"),
        ({"ORDER_TLS_CA_FILE": ""}, "refused by the gateway: TLS is needed"),
        ({"ORDER_TLS_CA_FILE": "other"}, "must hold it, or the one that signed it"),
    ],
)
def test_what_is_missing_is_in_the_orderbooks_log_and_nothing_is_written(
    two: Two, settings: dict[str, str], reason: str
) -> None:
    (two.folder / "wrong").write_text("wrong token, wrong token")
    other = make_certificate(two.folder, "other", "IP:0.0.0.0")
    files = {"wrong": str(two.folder / "wrong"), "other": other.cert}
    two.gateway()
    two.orderbook(**{key: files.get(value, value) for key, value in settings.items()})
    eventually(lambda: reason in two.log("orderbook").read_text(), reason)
    time.sleep(0.2)
    assert two.ticks_written() == 0
    assert two.log("gateway").read_text().count("stream_started") == 0
