"""The gateway's loop: both ports, the timer and all subscribers on one epoll.

Every subscriber is a cursor into one shared feed, so a slow one does not delay the others.
"""

import select
import socket
import time
from collections.abc import Callable
from typing import Final, Self

from app.config.settings import Settings
from app.gateway.handshake import Handshake
from app.gateway.live import LiveInput
from app.gateway.mirror import publish
from app.gateway.playback import Playback
from app.gateway.price_publisher import PricePublisher
from app.gateway.sentiment_publisher import SentimentPublisher
from app.gateway.sessions import (
    CLOSING,
    DOOR,
    HELLO,
    STREAM,
    Publisher,
    Sessions,
    Subscriber,
)
from app.gateway.timerfd import Timer
from app.gateway.transport import Transport
from app.market_data.feed import Feed
from app.market_data.live.exchange.supervised import COUNTERS, SupervisedReceiver
from app.market_data.live.live_feed import LiveFeed
from app.market_data.live.segment import TICKS_MAX as LIVE_TICKS_MAX
from app.market_data.storage.resident import RESIDENT
from app.runtime.log import get_logger
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.net.feed_access import FeedAccess
from app.runtime.net.listener import listen
from app.runtime.run.run_id import next_run, number_of
from app.runtime.run.stack_segments import remove_ticks

log = get_logger()

HEARTBEAT_S: Final = 0.5
BACKLOG: Final = 1024
TWOS_COMPLEMENT: Final = (1 << 64) - 1
SEND_BUFFER_BYTES: Final = 1 << 18
WAKE_BYTES: Final = 4096
GUESTS_MAX: Final = 64
"""Connections above GATEWAY_CLIENTS_MAX that are open for their hello.  A process of the stack
proves itself with it; when others take these places, the oldest gives way, so it still gets in."""


class FeedServer:
    """Listens, sends, and waits; :meth:`run` returns when ``stopped()`` is true."""

    def __init__(
        self,
        settings: Settings,
        feed: Feed,
        stopped: Callable[[], bool],
        metrics: ProcessMetrics | None = None,
        *,
        proof: str = "",
        access: FeedAccess | None = None,
        live: SupervisedReceiver | None = None,
    ) -> None:
        """``proof``: what clients of this stack show; without it, every client is a stranger.

        ``access``: what strangers have to show; without it, they may read the feed.  ``live``: what
        makes the feed grow, if it is a live one.
        """
        self._settings, self._feed, self._metrics = settings, feed, metrics
        self._access = access
        self._stopped = stopped
        self._next_maintenance_ns = 0
        self._published = dict.fromkeys(("bytes_sent", "clients_dropped", "resumes", *COUNTERS), 0)
        self._refusing_logged = False
        self._epoll = select.epoll()
        self.sessions = Sessions(self._epoll)
        self.prices = PricePublisher(feed, self.sessions)
        self.sentiments = SentimentPublisher(feed, self.sessions)
        self._timer = Timer()
        self._epoll.register(self._timer.fileno(), select.EPOLLIN | select.EPOLLET)
        self._playback = Playback(
            settings,
            feed,
            self.prices,
            self.sentiments,
            arm=self._timer.arm,
            on_change=self._publish_metrics,
            metrics=metrics,
        )
        self._handshake = Handshake(
            self.sessions, self._playback, feed, proof, access, self._begin_run
        )
        self._door = self._handshake.door
        if self._door is not None and self._door.relay is not None:
            self._epoll.register(self._door.relay.event_descriptor, select.EPOLLIN)
        self._wake_write_end, self._wake_read_end = socket.socketpair()
        self._wake_write_end.setblocking(False)
        self._wake_read_end.setblocking(False)
        self._epoll.register(self._wake_read_end, select.EPOLLIN)
        self._live: LiveInput | None = None
        if live is not None:
            assert isinstance(feed, LiveFeed)
            self._live = LiveInput(feed, live, self._epoll, self._release, self._end_feed)
        self._listeners: dict[int, tuple[socket.socket, Publisher]] = {}
        if metrics is not None:
            self._describe_run(metrics)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def listen(self) -> tuple[int, int]:
        """Open both ports; returns their numbers, prices first.

        Raises:
            OSError: a port is taken, or this host does not have the address.
        """
        publishers: list[tuple[int, Publisher]] = [
            (self._settings.price_port, self.prices),
            (self._settings.sentiment_port, self.sentiments),
        ]
        prices, sentiments = [self._listen_on(port, publisher) for port, publisher in publishers]
        self._playback.start_when_ready(time.monotonic_ns())
        return prices, sentiments

    def listen_control(self) -> int:
        """Open the control port; returns its number.

        Raises:
            OSError: as :meth:`listen`.
        """
        return self._listen_on(self._settings.control_port, self._handshake.control)

    def _listen_on(self, port: int, publisher: Publisher) -> int:
        listener = listen(
            self._settings.bind_host,
            port,
            backlog=BACKLOG,
            send_buffer_bytes=SEND_BUFFER_BYTES,
        )
        self._listeners[listener.fileno()] = (listener, publisher)
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        return int(listener.getsockname()[1])

    @property
    def waker_descriptor(self) -> int:
        """A byte written here wakes the loop: for ``signal.set_wakeup_fd``."""
        return self._wake_write_end.fileno()

    def run(self) -> None:
        """Serve until ``stopped()`` is true."""
        self._maintain(time.monotonic_ns())
        timer, wake = self._timer.fileno(), self._wake_read_end.fileno()
        subscribers, waiting = self.sessions.by_descriptor, self._handshake.waiting
        playback = self._playback
        while not self._stopped():
            for descriptor, events in self._epoll.poll(self._timeout_s()):
                if descriptor == timer:
                    playback.release_due(time.monotonic_ns())
                elif self._live is not None and descriptor == self._live.descriptor:
                    self._live.take()
                elif descriptor in self._listeners:
                    self._accept(*self._listeners[descriptor])
                elif descriptor == wake:
                    self._wake_read_end.recv(WAKE_BYTES)
                else:
                    subscriber = subscribers.get(descriptor)
                    if subscriber is not None:
                        self._serve(subscriber, events)
                    elif self._door is not None:
                        self._door.take_handshakes()
            now_ns = time.monotonic_ns()
            if playback.unpaced:
                playback.follow_leader(now_ns)
            if waiting:
                self._handshake.join_silent_clients(now_ns)
            if now_ns >= self._next_maintenance_ns:
                self._maintain(now_ns)
        self._publish_metrics()

    def _release(self) -> None:
        """The live feed has grown."""
        self._playback.release_due(time.monotonic_ns())

    def _end_feed(self) -> None:
        """The live feed has ended: how many ticks the run has is known."""
        self._playback.end_feed(time.monotonic_ns())
        if self._metrics is not None:
            self._describe_run(self._metrics)

    def _timeout_s(self) -> float:
        until_ns = self._next_maintenance_ns
        for subscriber in self._handshake.waiting:
            until_ns = min(until_ns, subscriber.deadline_ns)
        return max(0, until_ns - time.monotonic_ns()) / 1e9

    # ---- connections

    def _accept(self, listener: socket.socket, publisher: Publisher) -> None:
        while True:
            try:
                connection, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Most likely out of descriptors: try again at the next maintenance.
                log.warning("accept_failed", port=publisher.name, error=error.strerror)
                self._epoll.modify(listener.fileno(), 0)
                return
            peer = f"{address[0]}:{address[1]}"
            guest = self.sessions.strangers >= self._settings.gateway_clients_max
            if guest and not self._refusing_logged:
                self.sessions.log_refusal("client_refused", peer, reason="too many clients")
            self._refusing_logged = guest
            if guest and len(self.sessions.guests) >= GUESTS_MAX:
                self._handshake.evict(next(iter(self.sessions.guests)))
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._handshake.begin(connection, peer, publisher, guest=guest)

    def _serve(self, subscriber: Subscriber, events: int) -> None:
        if events & select.EPOLLIN:
            self._handshake.receive(subscriber)
        elif events & (select.EPOLLERR | select.EPOLLHUP):
            self.sessions.disconnect(subscriber, "client_left", port=subscriber.publisher.name)
        if events & select.EPOLLOUT:
            if subscriber.stage == CLOSING:
                self.sessions.finish(subscriber)
            elif subscriber.stage in (HELLO, STREAM):
                subscriber.publisher.pump(subscriber)
            elif subscriber.stage == DOOR and self.sessions.flush(subscriber):
                self.sessions.watch(subscriber, writable=False)

    def _begin_run(self, transport: Transport) -> None:
        """The market jumps back: the whole stack begins another run.

        The state is in the counters before the run begins, for a gateway that is killed meanwhile.
        The other processes notice the run, and start again; the ticks of the old one are gone
        before they can.  Last, the old connections are closed: who resumes is of the new run.

        Raises:
            OSError: the new run cannot be noted; nothing has changed.
        """
        metrics = self._metrics
        if metrics is not None:
            run = next_run(self._settings, metrics.run)
            publish(metrics, transport, 0, 0, 0)
            metrics.begin_run(run)
            remove_ticks(self._settings)
            self._describe_run(metrics)
            self._handshake.use_proof(metrics.stack_proof)
        for subscriber in list(self.sessions.by_descriptor.values()):
            if subscriber.publisher is not self._handshake.control:
                self.sessions.disconnect(subscriber, "client_left", reason="a new run begins")
        log.info("run_begins", run=number_of(metrics.run) if metrics else None)
        self._playback.begin_again(transport, time.monotonic_ns())

    def _describe_run(self, metrics: ProcessMetrics) -> None:
        metrics.set("run_number", number_of(metrics.run))
        metrics.set("rows_skipped", self._feed.rows_skipped)
        metrics.set("ticks_total", self._ticks_of_run)

    @property
    def _ticks_of_run(self) -> int:
        """0: the run does not end, or nobody knows yet when."""
        total = self._feed.total
        return total if self._settings.replay == "once" and total < LIVE_TICKS_MAX else 0

    # ---- maintenance

    def _maintain(self, now_ns: int) -> None:
        """Every :data:`HEARTBEAT_S`: heartbeats, subscribers to drop, counters."""
        self._next_maintenance_ns = now_ns + int(HEARTBEAT_S * 1e9)
        for listener, _ in self._listeners.values():
            self._epoll.modify(listener.fileno(), select.EPOLLIN)
        if self._live is not None:
            self._live.maintain(now_ns / 1e9)
        # Without heartbeats the prices age, which is what those of a broken live feed do.
        silent = self.prices if self._live is not None and not self._live.session.flows else None
        for subscriber in list(self.sessions.by_descriptor.values()):
            if subscriber.stage == CLOSING and now_ns >= subscriber.deadline_ns:
                self.sessions.disconnect(subscriber, "client_left", reason="did not close")
            elif subscriber.stage == STREAM and not subscriber.resuming:
                self._drop_if_stalled(subscriber, now_ns)
            elif (
                subscriber.stage == STREAM
                and subscriber.heartbeats
                and subscriber.publisher is not silent
            ):
                subscriber.publisher.heartbeat(subscriber)
        if self._metrics is not None:
            # It changes when somebody removes the segment.
            self._handshake.use_proof(self._metrics.stack_proof)
        if self._door is not None:
            self._door.maintain(now_ns)
        elif self._access is not None:
            self._access.look(now_ns / 1e9)
        self.sessions.flush_refusals()
        RESIDENT.look()
        self._publish_metrics()

    def _drop_if_stalled(self, subscriber: Subscriber, now_ns: int) -> None:
        stalled_ns = now_ns - subscriber.progress_ns
        if stalled_ns < self._settings.client_stall_timeout_s * 1e9:
            return
        lag_bytes = subscriber.publisher.lag_bytes(subscriber)
        if lag_bytes > self._settings.client_buffer_limit_bytes:
            self.sessions.refuse(
                subscriber,
                "client_dropped",
                port=subscriber.publisher.name,
                lag_bytes=lag_bytes,
                stalled_s=stalled_ns / 1e9,
            )

    def _publish_metrics(self) -> None:
        metrics, sessions = self._metrics, self.sessions
        if metrics is None:
            return
        position = self.prices.position
        if self._playback.started and position != metrics.get("ticks_sent"):
            metrics.set("ticks_sent", position)
            metrics.set("sentiment_sent", self._feed.sentiment_count(position))
            metrics.set("event_ns", self._feed.event_ns(max(position, 1) - 1) & TWOS_COMPLEMENT)
            metrics.mark_event(time.monotonic_ns())
        metrics.set("clients", len(sessions))
        totals = {
            "bytes_sent": sessions.bytes_sent,
            "clients_dropped": sessions.dropped,
            "resumes": self._handshake.resumes,
            **(self._live.session.counts if self._live is not None else {}),
        }
        # The block's counters continue those of a previous process: add, never set.
        for name, total in totals.items():
            metrics.add(name, total - self._published[name])
        self._published |= totals
        metrics.heartbeat()

    def close(self) -> None:
        """Close every socket."""
        if self._live is not None:
            self._live.close()
        self.sessions.close()
        for listener, _ in self._listeners.values():
            listener.close()
        self._listeners.clear()
        if self._door is not None:
            self._door.close()
        self._epoll.close()
        self._timer.close()
        self._wake_write_end.close()
        self._wake_read_end.close()
