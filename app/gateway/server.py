"""The gateway's loop: both ports, the pace, and whoever is connected, on one epoll.

Every subscriber is a cursor into one shared feed, so a slow one costs the others nothing.
"""

import select
import socket
import time
from collections.abc import Callable
from typing import Final, Self

from app.config import Settings
from app.gateway.pacing import make_pace
from app.gateway.price_publisher import PricePublisher
from app.gateway.sentiment_publisher import SentimentPublisher
from app.gateway.sessions import (
    CLOSING,
    HELLO,
    STREAM,
    Publisher,
    Sessions,
    Subscriber,
    send_symbol_list,
)
from app.gateway.timerfd import Timer
from app.market_data.feed import Feed
from app.model.wire.feed_protocol import BEAT, PING, PONG, parse_mark
from app.model.wire.frames import DELIMITER, RemoteProtocolError
from app.runtime.log import get_logger
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.net.listener import listen

log = get_logger()

HELLO_S: Final = 0.05
"""Who has said nothing for so long is a plain subscriber."""
HEARTBEAT_S: Final = 0.5
WAKE_NS_MIN: Final = 200_000
"""Above 5,000 ticks a second, ticks that fall due within this time go out together."""
RECEIVE_BYTES: Final = 4096
BACKLOG: Final = 1024
SEND_BUFFER_BYTES: Final = 1 << 18


class FeedServer:
    """Listens, sends, and waits; :meth:`run` returns after :meth:`stop` or when ``stopped()``."""

    def __init__(
        self,
        settings: Settings,
        feed: Feed,
        metrics: ProcessMetrics | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings, self._feed, self._metrics = settings, feed, metrics
        self._stopped = stopped
        self._stop_asked = self._started = self._finished = False
        self._next_heartbeat_ns = self._armed_ns = 0
        self._resumes = 0
        self._published = dict.fromkeys(("bytes_sent", "clients_dropped", "resumes"), 0)
        self._full = False
        self._epoll = select.epoll()
        self._sessions = Sessions(self._epoll)
        self.prices = PricePublisher(feed, self._sessions)
        self.sentiments = SentimentPublisher(feed, self._sessions)
        # A predecessor died in the middle of its work.
        self._restarted = metrics is not None and metrics.restarts > 0
        self._greeting: set[Subscriber] = set()
        self._pace = make_pace(settings.pace, feed)
        self._timer = Timer()
        self._epoll.register(self._timer.fileno(), select.EPOLLIN | select.EPOLLET)
        self._waker, self._wake_end = socket.socketpair()
        self._waker.setblocking(False)
        self._wake_end.setblocking(False)
        self._epoll.register(self._wake_end, select.EPOLLIN)
        self._listeners: dict[int, tuple[socket.socket, Publisher]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def listen(self) -> tuple[int, int]:
        """Open both ports; returns their numbers, prices first.

        Raises:
            OSError: a port is taken, or the address is not ours.
        """
        publishers: list[tuple[int, Publisher]] = [
            (self._settings.price_port, self.prices),
            (self._settings.sentiment_port, self.sentiments),
        ]
        ports = []
        for port, publisher in publishers:
            listener = listen(
                self._settings.bind_host,
                port,
                backlog=BACKLOG,
                send_buffer_bytes=SEND_BUFFER_BYTES,
            )
            self._listeners[listener.fileno()] = (listener, publisher)
            self._epoll.register(listener.fileno(), select.EPOLLIN)
            ports.append(listener.getsockname()[1])
        self._maybe_start()
        return ports[0], ports[1]

    def stop(self) -> None:
        """Make :meth:`run` return; from any thread."""
        self._stop_asked = True
        self._waker.send(b"\0")

    @property
    def clients(self) -> int:
        """How many clients are connected."""
        return len(self._sessions)

    @property
    def clients_dropped(self) -> int:
        """How many were dropped for what they did."""
        return self._sessions.dropped

    @property
    def waker_descriptor(self) -> int:
        """A byte written here wakes the loop: for ``signal.set_wakeup_fd``."""
        return self._waker.fileno()

    def run(self) -> None:
        """Serve until told to stop."""
        self._heartbeat(time.monotonic_ns())
        timer, wake, clients = self._timer.fileno(), self._wake_end.fileno(), self._sessions
        while not (self._stop_asked or self._stopped()):
            for descriptor, events in self._epoll.poll(self._timeout_s()):
                if descriptor == timer:
                    self._release_due()
                elif descriptor in self._listeners:
                    self._accept(*self._listeners[descriptor])
                elif descriptor == wake:
                    self._wake_end.recv(RECEIVE_BYTES)
                else:
                    subscriber = clients.by_descriptor.get(descriptor)
                    if subscriber is not None:
                        self._serve(subscriber, events)
            if self._started and self._pace is None:
                self._follow_clients()
            now_ns = time.monotonic_ns()
            if self._greeting:
                self._greet(now_ns)
            if now_ns >= self._next_heartbeat_ns:
                self._heartbeat(now_ns)
        self._publish(time.monotonic_ns())

    def _timeout_s(self) -> float:
        until_ns = min((subscriber.deadline_ns for subscriber in self._greeting), default=1 << 62)
        return max(0, min(until_ns, self._next_heartbeat_ns) - time.monotonic_ns()) / 1e9

    # ---- pace

    def _maybe_start(self) -> None:
        if not self._started and self._may_start():
            self._start()

    def _may_start(self) -> bool:
        """Whether everyone is there; a client that is beyond tick 0 says that the run was begun.

        Sentiment is sent so far ahead that its subscriber may have got all it needs before we were
        restarted, and not come back.
        """
        if self.prices.released:
            return True
        prices = len(self.prices.subscribers) + self.prices.completed
        sentiments = len(self.sentiments.subscribers) + self.sentiments.completed
        return prices >= self._settings.price_subscribers and (
            self._restarted or sentiments >= self._settings.sentiment_subscribers
        )

    def _start(self) -> None:
        self._started = True
        if self._metrics is not None:
            self._metrics.mark_event(time.monotonic_ns())
        log.info("stream_started", seq=self.prices.released, pace=self._settings.pace)
        if self._pace is None:
            self.prices.start_full_pace()
        else:
            self._begin_pace()
            self._release_due()

    def _begin_pace(self) -> None:
        """Count the schedule from here; others may read it, to measure from when a tick was due."""
        assert self._pace is not None
        now_ns = time.monotonic_ns()
        self._pace.begin(self.prices.released, now_ns)
        if self._metrics is not None:
            self._metrics.set("schedule_seq", self.prices.released)
            self._metrics.set("schedule_ns", now_ns)

    def _release_due(self) -> None:
        """Set the timer for the next tick and send every one that is due.

        The sending comes last: what came after it would be in the way of those who wait for the
        tick, where they share our core.
        """
        if self._pace is None or not self._started or self._finished:
            return
        now_ns = time.monotonic_ns()
        due = min(self._pace.due(now_ns), self._feed.total)
        if due < self._feed.total:
            self._armed_ns = max(self._pace.due_ns(due), self._armed_ns + WAKE_NS_MIN)
            self._timer.arm(self._armed_ns)
        if self.sentiments.subscribers:
            self.sentiments.advance(due)
        self.prices.release(due)
        if due == self._feed.total:
            self._finish()

    def _resume_at(self, subscriber: Subscriber, seq: int) -> None:
        """A subscriber may be ahead of us after our restart: the schedule goes on from there."""
        before = self.prices.released
        subscriber.publisher.resume(subscriber, seq)
        self._resumes += 1
        self._joined(subscriber, seq)
        if self.prices.released != before and self._started and self._pace is not None:
            self._begin_pace()
            self._release_due()
        self.sentiments.advance(self.prices.position)

    def _follow_clients(self) -> None:
        """At full pace the position is where the fastest subscriber is."""
        position = self.prices.position
        if not self._settings.price_subscribers and not self.prices.subscribers:
            position = self._feed.total
        self.sentiments.advance(position)
        if self.prices.position == self._feed.total and not self._finished:
            self._finish()

    def _finish(self) -> None:
        self._finished = True
        log.info("stream_finished", ticks=self._feed.total)
        self._publish(time.monotonic_ns())

    # ---- clients

    def _accept(self, listener: socket.socket, publisher: Publisher) -> None:
        while True:
            try:
                connection, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Out of descriptors, most likely: look again with the next heartbeat.
                log.warning("accept_failed", port=publisher.name, error=error.strerror)
                self._epoll.modify(listener.fileno(), 0)
                return
            peer = f"{address[0]}:{address[1]}"
            if len(self._sessions) >= self._settings.gateway_clients_max:
                if not self._full:
                    log.warning("client_refused", peer=peer, reason="too many clients")
                self._full = True
                connection.close()
                continue
            self._full = False
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if publisher is self.prices and not send_symbol_list(connection, self._feed.symbols):
                connection.close()
                continue
            deadline_ns = time.monotonic_ns() + int(HELLO_S * 1e9)
            subscriber = Subscriber(connection, peer, publisher, deadline_ns)
            self._sessions.add(subscriber)
            self._greeting.add(subscriber)

    def _greet(self, now_ns: int) -> None:
        """Take those for plain clients who have had the time to say otherwise."""
        for subscriber in [
            c for c in self._greeting if c.stage != HELLO or c.deadline_ns <= now_ns
        ]:
            self._greeting.discard(subscriber)
            if subscriber.stage == HELLO:
                subscriber.publisher.join(subscriber)
                self._joined(subscriber)

    def _joined(self, subscriber: Subscriber, seq: int = 0) -> None:
        where = {"seq": seq} if subscriber.resuming else {}
        log.info("client_joined", port=subscriber.publisher.name, peer=subscriber.peer, **where)
        self._maybe_start()

    def _serve(self, subscriber: Subscriber, events: int) -> None:
        if events & select.EPOLLIN:
            self._receive(subscriber)
        elif events & (select.EPOLLERR | select.EPOLLHUP):
            self._sessions.disconnect(subscriber, "client_left", port=subscriber.publisher.name)
        if events & select.EPOLLOUT:
            if subscriber.stage == CLOSING:
                self._sessions.finish(subscriber)
            elif subscriber.stage in (HELLO, STREAM):
                subscriber.publisher.pump(subscriber)

    def _receive(self, subscriber: Subscriber) -> None:
        try:
            data = subscriber.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._sessions.disconnect(subscriber, "client_left", reason=error.strerror)
            return
        if not data:
            self._end_of_input(subscriber)
            return
        try:
            for frame in subscriber.hello.feed(data):
                self._take_frame(subscriber, frame)
        except RemoteProtocolError as error:
            self._sessions.refuse(subscriber, "client_refused", reason=str(error))

    def _end_of_input(self, subscriber: Subscriber) -> None:
        """A plain subscriber may close its sending side and read on; anyone else has left."""
        if subscriber.stage == STREAM and self._started and not subscriber.resuming:
            subscriber.half_closed = True
            self._sessions.watch(subscriber, bool(subscriber.watching & select.EPOLLOUT))
        else:
            self._sessions.disconnect(subscriber, "client_left", port=subscriber.publisher.name)

    def _take_frame(self, subscriber: Subscriber, frame: bytes) -> None:
        if subscriber.stage not in (HELLO, STREAM):
            return
        if subscriber.resuming:
            raise RemoteProtocolError(f"frame after RESUME: {frame!r}")
        seq = parse_mark(frame, "RESUME")
        if seq is not None:
            self._resume_at(subscriber, seq)
        elif subscriber.stage == HELLO and frame == PING:
            subscriber.queue(PONG + DELIMITER)
            self._sessions.finish(subscriber)
        elif subscriber.stage == HELLO and frame == BEAT:
            subscriber.heartbeats = True
        elif subscriber.stage == HELLO and frame == b"RUN":
            subscriber.queue(f"RUN|{self._feed.feed_id}*".encode())
            subscriber.publisher.pump(subscriber)
        else:
            raise RemoteProtocolError(f"unknown hello {frame!r}")

    # ---- housekeeping

    def _heartbeat(self, now_ns: int) -> None:
        self._next_heartbeat_ns = now_ns + int(HEARTBEAT_S * 1e9)
        for listener, _ in self._listeners.values():
            self._epoll.modify(listener.fileno(), select.EPOLLIN)
        for subscriber in list(self._sessions.by_descriptor.values()):
            if subscriber.stage == CLOSING and now_ns >= subscriber.deadline_ns:
                self._sessions.disconnect(subscriber, "client_left", reason="did not close")
            elif subscriber.stage == STREAM and not subscriber.resuming:
                self._drop_if_stalled(subscriber, now_ns)
            elif subscriber.stage == STREAM and subscriber.heartbeats:
                subscriber.publisher.heartbeat(subscriber)
        self._publish(now_ns)

    def _drop_if_stalled(self, subscriber: Subscriber, now_ns: int) -> None:
        stalled_ns = now_ns - subscriber.progress_ns
        if stalled_ns < self._settings.client_stall_timeout_s * 1e9:
            return
        lag_bytes = subscriber.publisher.lag_bytes(subscriber)
        if lag_bytes > self._settings.client_buffer_limit_bytes:
            self._sessions.refuse(
                subscriber,
                "client_dropped",
                port=subscriber.publisher.name,
                lag_bytes=lag_bytes,
                stalled_s=stalled_ns / 1e9,
            )

    def _publish(self, now_ns: int) -> None:
        metrics, connections = self._metrics, self._sessions
        if metrics is None:
            return
        position = self.prices.position
        if self._started and position != metrics.get("ticks_sent"):
            metrics.set("ticks_sent", position)
            metrics.set("sentiment_sent", self._feed.sentiment_count(position))
            metrics.mark_event(now_ns)
        metrics.set("clients", len(connections))
        metrics.add("bytes_sent", connections.bytes_sent - self._published["bytes_sent"])
        metrics.add("clients_dropped", connections.dropped - self._published["clients_dropped"])
        metrics.add("resumes", self._resumes - self._published["resumes"])
        self._published = {
            "bytes_sent": connections.bytes_sent,
            "clients_dropped": connections.dropped,
            "resumes": self._resumes,
        }
        metrics.heartbeat()

    def close(self) -> None:
        """Close every socket."""
        self._sessions.close()
        for listener, _ in self._listeners.values():
            listener.close()
        self._listeners.clear()
        self._epoll.close()
        self._timer.close()
        self._waker.close()
        self._wake_end.close()
