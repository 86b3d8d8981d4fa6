"""Feeds, a gateway server in a thread, and bare socket clients."""

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from app.config.settings import Settings
from app.gateway.server import FeedServer
from app.market_data.feed import Feed
from app.market_data.sources.loader import open_feed
from app.model.timestamps import format_timestamp, parse_timestamp
from app.runtime.net.feed_access import FeedAccess
from tests.support.children import DEADLINE_S, eventually

HEADER = "timestamp,symbol,price\n"
SYMBOLS_FRAME = b"SYMBOLS|AAPL,MSFT,F*"  # for a file of write_ticks()
START_NS = 1759311000 * 10**9
PROOF = "00112233445566778899aabbccddeeff"
PROVEN = f"PROOF|{PROOF}*".encode()
"""Begins the hello of a client of the stack."""
wait_until = eventually


class Tick(NamedTuple):
    """One frame, parsed."""

    event_ns: int
    symbol: str
    value: str


def write_ticks(
    path: Path,
    count: int,
    symbols: tuple[str, ...] = ("AAPL", "MSFT", "F"),
    same_time: int = 2,
    sentiment: Callable[[int], str] | None = None,
) -> Path:
    """Write ``count`` ticks, ``same_time`` of them in each second."""
    lines = [HEADER if sentiment is None else HEADER.replace("price", "price,sentiment")]
    for row in range(count):
        moment = format_timestamp(START_NS + row // same_time * 10**9).decode()
        symbol = symbols[(row * row + row // 4) % len(symbols)]
        extra = "" if sentiment is None else f",{sentiment(row)}"
        lines.append(f"{moment},{symbol},{100 + row % 7}.{row % 100:02}{extra}\n")
    path.write_text("".join(lines))
    return path


def make_feed(path: Path, **changes: object) -> Feed:
    """The feed of a file."""
    return open_feed(make_settings(data_path=str(path), **changes))


def make_settings(**changes: object) -> Settings:
    """Settings for a test: ports that the kernel chooses, full pace, one pass over the file."""
    fixed = {
        "price_port": 0,
        "sentiment_port": 0,
        "control_port": 0,
        "pace": "max",
        "replay": "once",
        "price_subscribers": 1,
        "sentiment_subscribers": 0,
        "log_level": "ERROR",
    }
    return Settings(**(fixed | changes))  # type: ignore[arg-type]


def parse_ticks(data: bytes) -> list[Tick]:
    """The ticks of a stream of frames; fails on anything else."""
    fields = data.split(b"*")
    assert fields.pop() == b""
    assert len(fields) % 3 == 0
    triples = zip(fields[::3], fields[1::3], fields[2::3], strict=True)
    return [Tick(parse_timestamp(t)[0], s.decode(), v.decode()) for t, s, v in triples]


def ticks_bytes(feed: Feed, first: int, end: int) -> bytes:
    """The bytes of the ticks from ``first`` to ``end``, collected block by block."""
    parts = []
    while first < end:
        block = feed.block_at(first)
        stop = min(end, block.end)
        start, limit = block.offsets[first - block.first], block.offsets[stop - block.first]
        parts.append(bytes(block.data[start:limit]))
        first = stop
    return b"".join(parts)


def all_ticks(feed: Feed) -> bytes:
    """The bytes of every tick."""
    return ticks_bytes(feed, 0, feed.total)


class Running(NamedTuple):
    """A running server and its ports."""

    server: FeedServer
    price_port: int
    sentiment_port: int
    control_port: int


@contextmanager
def running(feed: Feed, settings: Settings) -> Iterator[Running]:
    """A server in a thread; the test fails if it does not stop when asked to."""
    stop = threading.Event()
    access = FeedAccess.from_settings(settings)
    server = FeedServer(settings, feed, stop.is_set, proof=PROOF, access=access)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            server.run()
        except BaseException as error:
            failures.append(error)

    try:
        ports = (*server.listen(), server.listen_control())
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield Running(server, *ports)
        finally:
            stop.set()
            with suppress(OSError):
                os.write(server.waker_descriptor, b"\0")
            thread.join(DEADLINE_S)
            assert not thread.is_alive(), "the server did not stop"
            assert not failures, failures
    finally:
        server.close()


class WireClient:
    """A bare socket and the bytes received over it."""

    def __init__(
        self,
        port: int,
        hello: bytes = b"",
        receive_buffer: int | None = None,
        trusted: str = "",
        source: str = "127.0.0.1",
    ) -> None:
        """``trusted``: a certificate, of which the client speaks TLS; ``source``: its address."""
        self.socket = socket.socket()
        self.socket.bind((source, 0))
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(("127.0.0.1", port))
        if trusted:
            context = ssl.create_default_context(cafile=trusted)
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        if hello:
            self.socket.sendall(hello)
        self.data = b""

    def __enter__(self) -> "WireClient":
        return self

    def __exit__(self, *_error: object) -> None:
        self.socket.close()

    def read_until(self, done: Callable[[bytes], object]) -> bytes:
        """Read until ``done`` is true of everything received on this connection; return it."""
        deadline = time.monotonic() + DEADLINE_S
        while not done(self.data):
            assert time.monotonic() < deadline, f"still waiting; got {self.data[-200:]!r}"
            more = self.socket.recv(1 << 16)
            assert more, f"closed after {self.data[-200:]!r}"
            self.data += more
        return self.data

    def read_to_end(self) -> bytes:
        """Read until the server closes the connection."""
        while more := self.socket.recv(1 << 18):
            self.data += more
        return self.data

    def read_frames(self, count: int) -> list[bytes]:
        """The first ``count`` frames of this connection."""
        return self.read_until(lambda data: data.count(b"*") >= count).split(b"*")[:count]
