"""A gateway without sockets and clock: clients that read when told, time that passes when told."""

import itertools
import select
import socket
from typing import cast

import msgspec

from app.gateway.playback import Playback
from app.gateway.price_publisher import PricePublisher
from app.gateway.sentiment_publisher import SentimentPublisher
from app.gateway.sessions import GONE, Publisher, Sessions, Subscriber
from app.gateway.transport import Transport
from app.market_data.feed import Feed
from app.runtime.metrics.process_metrics import ProcessMetrics
from tests.support.feed_helpers import make_settings

BEGIN_NS = 123_456_789_012_345


class Wire:
    """A client's end of a connection: takes ``room`` bytes before it blocks."""

    numbers = itertools.count(1000)

    def __init__(self, room: int) -> None:
        self.room, self.received, self.number = room, b"", next(self.numbers)

    def fileno(self) -> int:
        return self.number

    def send(self, data: memoryview) -> int:
        count = min(self.room, len(data))
        if not count:
            raise BlockingIOError
        self.received += bytes(data[:count])
        self.room -= count
        return count

    def shutdown(self, _how: int) -> None: ...

    def close(self) -> None: ...


class Waiting:
    """In place of epoll: what each descriptor waits for."""

    def __init__(self) -> None:
        self.events: dict[int, int] = {}

    def register(self, descriptor: int, events: int) -> None:
        self.events[descriptor] = events

    modify = register

    def unregister(self, descriptor: int) -> None:
        del self.events[descriptor]


class Counters(dict[str, int]):
    """In place of the process's metrics; they survive the gateway."""

    restarts = 0

    def get(self, name: str, default: int = 0) -> int:  # type: ignore[override]
        return super().get(name, default)

    def set(self, name: str, value: int) -> None:
        assert 0 <= value < 1 << 64
        self[name] = value

    def mark_event(self, _now_ns: int) -> None: ...


class World:
    """A gateway, its clients, and the time."""

    def __init__(self, feed: Feed, **settings: object) -> None:
        self.feed = feed
        self._settings = make_settings(**({"pace": "1000/s"} | settings))
        self.now_ns = BEGIN_NS
        self.counters = Counters()
        self.start()

    def start(self) -> None:
        """A gateway process; the one before is gone, with its connections."""
        self.waiting = Waiting()
        self.sessions = Sessions(cast(select.epoll, self.waiting))
        self.prices = PricePublisher(self.feed, self.sessions)
        self.sentiments = SentimentPublisher(self.feed, self.sessions)
        self.armed_ns: int | None = None
        self.playback = Playback(
            self._settings,
            self.feed,
            self.prices,
            self.sentiments,
            arm=self._arm,
            on_change=self._on_change,
            metrics=cast(ProcessMetrics, self.counters),
        )
        self.playback.start_when_ready(self.now_ns)

    def crash(self, feed: Feed | None = None, **settings: object) -> None:
        """The gateway is killed, and comes back with the counters that it left."""
        self.counters.restarts += 1
        self.feed = feed or self.feed
        self._settings = msgspec.structs.replace(self._settings, **settings)
        self.start()

    def _arm(self, at_ns: int) -> None:
        self.armed_ns = at_ns

    def _on_change(self) -> None:
        self.counters.set("ticks_sent", self.prices.position)

    def join(self, publisher: Publisher, room: int, seq: int | None, proven: bool) -> Subscriber:
        """A new client: plain, or one that resumes at ``seq``."""
        wire = cast(socket.socket, Wire(room))
        client = Subscriber(wire, "127.0.0.1:1", publisher, 0)
        self.sessions.add(client)
        if proven:
            self.sessions.prove(client)
        if seq is None:
            publisher.subscribe(client)
        else:
            released = self.playback.released
            publisher.resume(client, seq)
            self.playback.follow_resume(released, self.now_ns)
        self.playback.start_when_ready(self.now_ns)
        self._follow()
        return client

    def _follow(self) -> None:
        if self.playback.unpaced:
            self.playback.follow_leader(self.now_ns)

    def tell(self, transport: Transport) -> None:
        """A command."""
        self.playback.tell(transport, self.now_ns)
        self._follow()

    def jump_back(self, tick: int) -> None:
        """A new run: every client is gone."""
        transport = self.playback.transport.seek(tick, 0)
        for client in list(self.sessions.by_descriptor.values()):
            self.sessions.disconnect(client, "client_left")
        self.counters.restarts = 0
        self.playback.begin_again(transport, self.now_ns)
        self._follow()

    def wait(self, for_ns: int) -> None:
        """Time passes; the timer fires when it is due."""
        until_ns = self.now_ns + for_ns
        while self.armed_ns is not None and self.armed_ns <= until_ns:
            self.now_ns, self.armed_ns = max(self.now_ns, self.armed_ns), None
            self.playback.release_due(self.now_ns)
        self.now_ns = until_ns
        self._follow()

    def read(self, client: Subscriber, count: int) -> None:
        """A client reads: there is room for as many bytes more."""
        wire = cast(Wire, client.socket)
        wire.room += count
        while (
            client.stage != GONE
            and wire.room
            and self.waiting.events[wire.fileno()] & select.EPOLLOUT
        ):
            self.pump(client)
            self._follow()

    def pump(self, client: Subscriber) -> None:
        """The socket of a client is writable."""
        if client in client.publisher.subscribers and client.stage != GONE and not client.finished:
            client.publisher.pump(client)
        else:
            self.sessions.finish(client)


def received(client: Subscriber) -> bytes:
    """What a client has got."""
    return cast(Wire, client.socket).received
