"""The order manager's server: one epoll loop around the order service.

One iteration: wait, receive from every readable socket, decide on a batch of up to ORDER_GROUP_MAX
requests, commit it in one transaction, send the answers, log.  So a single order waits only for its
own commit, and under load one commit carries many orders.
"""

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from operator import attrgetter
from typing import Final

from app.config.settings import Settings
from app.execution.prices import NoPrices, PriceSource
from app.model.orders import OrderRequest
from app.model.reject_codes import RejectCode
from app.model.requests import PAGE_ROWS_MAX, Reject, Request
from app.model.wire.frames import DELIMITER
from app.order_manager.access.admission import GREETINGS, Admission
from app.order_manager.access.keyring import Keyring
from app.order_manager.access.refusals import RefusalLog
from app.order_manager.access.turn import QUERIES, Turn
from app.order_manager.book_prices import SharedBookPrices
from app.order_manager.counts import publish_now
from app.order_manager.order_log import OrderLog, trace_orders
from app.order_manager.queries import ROWS_SHARED
from app.order_manager.service import build_service
from app.order_manager.session import Session
from app.order_manager.sessions import IN, MAINTENANCE_S, OUT, Sessions
from app.order_manager.store.files import store_path
from app.order_manager.store.prune import prune_at_start
from app.order_manager.store.room import RoomWatch
from app.order_manager.store.schema import StoreError
from app.order_manager.store.store import OrderStore
from app.runtime.lifecycle import Stop
from app.runtime.log import get_logger
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.net import access
from app.runtime.net.listener import listen
from app.runtime.run.run_id import resolve_run_id
from app.runtime.trace.writer import NoteAnswers, no_note

MESSAGE_DELIMITER: Final = DELIMITER

log = get_logger()

IDLE_S: Final = 0.25
LOG_RETRY_S: Final = 0.02
DRAIN_S: Final = 2.0
DRAIN_POLL_S: Final = 0.01
EVENTS_MAX: Final = 256
"""Of one poll; each allocates room for so many."""
BATCH_NS: Final = 2_000_000
"""About the time for ORDER_GROUP_MAX requests, which is the wait that batching adds to an order."""
BATCH_GROWTH_MAX: Final = 8


class OrderManagerServer:
    """A TCP server of the order port.

    ``OrderManagerServer(host, port)`` without settings keeps its orders in memory, uses the default
    settings, and lets everybody do everything.  Port 0 lets the system choose; ``.port`` is the
    result.  The constructor binds the port, so a client may connect as soon as the object exists.
    :meth:`start` serves until :meth:`stop` is called, from another thread or a signal handler.

    Raises:
        OSError: the port cannot be bound.
        FatalError: the token of the stack cannot be written.
        SettingsError: the tokens or the certificate cannot be used.
        StoreError, StoreUnavailableError: the store cannot be opened.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        settings: Settings | None = None,
        metrics: ProcessMetrics | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.settings = chosen = settings or Settings()
        self._metrics = metrics
        self._stop = Stop() if stop is None else stop
        keyring = Keyring.open_to_all() if settings is None else Keyring(chosen)
        tls = access.server_tls(chosen)
        path = ":memory:" if settings is None else store_path(settings)
        run_id = resolve_run_id(chosen, metrics.run if metrics else 0)
        with contextlib.ExitStack() as opened:  # closed again if a later step fails
            prune_at_start(path, chosen.order_store_keep_days, run_id, chosen.shard)
            synchronous, decimals = chosen.order_store_synchronous, chosen.qty_decimals
            self._store = OrderStore.open(path, synchronous, run_id, decimals)
            opened.callback(self._store.close)
            self._room = RoomWatch(path, chosen.order_store_free_bytes_min)
            self._prices: PriceSource = NoPrices()
            if settings is not None:
                book = SharedBookPrices(settings.shm_price_book, settings.heartbeat_timeout_s)
                opened.callback(book.close)
                self._prices = book
            self._service = build_service(chosen, self._store, self._prices)
            self._service.grant_of = attrgetter("grant")
            listener = opened.enter_context(listen(host, port))
            if settings is not None:
                # Nobody is accepted yet: whoever has the file finds that its token is known.
                keyring.make_stack_token(listener.getsockname()[1])
            self._epoll = opened.enter_context(select.epoll())
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            opened.callback(os.close, self._wake)
            self._epoll.register(self._wake, IN)
            self._sessions = Sessions(self._epoll, listener, chosen, tls, keyring)
            self._admission = Admission(keyring, self._service, self._sessions)
            self._log = OrderLog(chosen.log_format, chosen.log_level, 2, self._service.core.scale)
            opened.pop_all()
        self.host = host
        self.port: int = listener.getsockname()[1]
        self._wake_lock = threading.RLock()
        """Keeps :meth:`stop` from writing to a descriptor that is already closed."""
        self._listening = listener.fileno()
        self._refusals = RefusalLog()
        self.note_answers: NoteAnswers = no_note
        self._waiting: deque[Session] = deque()
        """Sessions with frames to process, first come first served."""
        self._turn = Turn(2 * BATCH_NS)
        self._traced = chosen.log_level == "DEBUG"
        self._batch_max = chosen.order_group_max
        self._poll_s = chosen.book_poll_ms / 1000
        self._next_maintenance = 0.0

    def start(self) -> None:
        """Serve until :meth:`stop`; then answer the requests that have arrived, and close."""
        if self._metrics is not None:
            self._metrics.set_state("ready")
        try:
            while not self._stop:
                self._iterate(self._timeout_s())
            self._drain()
        finally:
            self._close()

    def stop(self) -> None:
        """Make :meth:`start` return; safe from any thread or signal handler, and more than once."""
        self._stop.requested = True
        with self._wake_lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def _iterate(self, timeout_s: float) -> bool:
        """One iteration of the loop; returns whether there was any event."""
        events = self._epoll.poll(timeout_s, EVENTS_MAX)
        get = self._sessions.by_fileno.get
        for fileno, event in events:
            session = get(fileno)
            if session is not None:
                if event & ~OUT:
                    self._receive(session, event)
                if event & OUT:
                    self._sessions.send(session, b"")
            elif fileno == self._listening:
                self._sessions.accept()
        if self._has_work() or self._service.has_timed_work:
            self._process_batch()
        now = time.monotonic()
        if now >= self._next_maintenance or not events:
            self._maintain(now, idle=not events)
        return bool(events)

    def _has_work(self) -> bool:
        return bool(self._waiting or self._sessions.left or self._service.cancels_wait)

    def _timeout_s(self) -> float:
        if self._has_work():
            return 0.0
        if self._service.has_timed_work:
            return self._poll_s
        return LOG_RETRY_S if self._log.pending else IDLE_S

    def _receive(self, session: Session, event: int) -> None:
        held = session.held_bytes
        try:
            if not session.receive():
                if event & (select.EPOLLHUP | select.EPOLLERR):
                    self._sessions.close(session)
                return
        except OSError as error:
            if session.handshaking:
                self._sessions.refuse(session, "tls_failed", str(error))
            self._sessions.close(session)
            return
        if session.ended and (session.lingering or event & select.EPOLLERR):
            self._sessions.close(session)
            return
        if session.lingering or session.closing:
            return
        self._sessions.note_input(session.held_bytes - held)
        if session.closing:
            return
        session.last_ns = time.monotonic_ns()
        if not session.read_any:
            session.read_any = True
            if not self._admission.speaks_our_protocol(session):
                self._enqueue(session)
                return
        if session.frames or session.oversize:
            self._enqueue(session)
            if len(session.frames) > self.settings.order_frames_in_flight_max:
                self._sessions.watch(session)
        elif session.ended:
            self._sessions.send(session, b"")

    def _enqueue(self, session: Session) -> None:
        if not session.waiting:
            session.waiting = True
            self._waiting.append(session)

    def _process_batch(self) -> None:
        """Decide on one batch of requests, commit, answer, log."""
        service = self._service
        if left_by := self._sessions.left:
            service.cancel_of_left(left_by)
            left_by.clear()
        service.begin()
        left = self._batch_max
        waiting = self._waiting
        self._turn.begin()
        postponed: list[Session] = []
        for number in range(len(waiting)):
            if number and (left <= 0 or self._turn.is_over()):
                break
            session = waiting.popleft()
            taken = self._turn.take(session, left, len(waiting))
            left -= len(taken)
            self._handle(session, taken)
            if session.frames:
                (postponed if session.postponed else waiting).append(session)
                continue
            session.waiting = False
            if session.oversize and not session.closing:
                self._admission.refuse_oversize(session)
        waiting.extendleft(reversed(postponed))
        answers = service.finish()
        self.note_answers(answers, service.counts, service.events)
        received = self._sessions.send_all(answers)
        # Before anything else: a client that the answers have woken may run now, on this CPU.
        sent_ns = time.monotonic_ns()
        self._resize_batch(service.counts.commit_ns)
        if service.counts.positive != len(answers):
            service.counts.requests_refused += self._refusals.note(answers)
        if self._metrics is not None:
            service.counts.publish(self._metrics, received, sent_ns)
        service.counts.clear()
        self._log.write(service.events, service.now_ns)
        if self._traced:
            trace_orders(service.events)
        self._store.end_batch()

    def _resize_batch(self, commit_ns: int) -> None:
        """Larger batches on a slow disk: deciding takes no longer than the commit."""
        slower = min(max(commit_ns // BATCH_NS, 1), BATCH_GROWTH_MAX)
        self._batch_max = self.settings.order_group_max * slower
        self._turn.batch_ns_max = 2 * BATCH_NS * slower

    def _handle(self, session: Session, frames: list[bytes]) -> None:
        """Process frames of one session, up to the first that closes it."""
        requests: list[Request] = []
        try:
            self._service.decode_all(frames, requests)
        except Exception:
            self._decide(session, frames, requests)
            if not session.closing:
                self._admission.refuse_after_bug(session, frames[len(requests)])
            return
        self._decide(session, frames, requests)

    def _decide(self, session: Session, frames: list[bytes], requests: list[Request]) -> None:
        handle: Callable[[Session, Request], None] = self._service.handle
        allows = self._admission.allows
        free, known = session.free_pass()
        done = 0
        try:
            for request in requests:
                act = handle
                if type(request) is OrderRequest:
                    passes = free or request.client in known
                else:
                    passes = free
                    if isinstance(request, Reject) and request.code == RejectCode.BAD_UTF8:
                        self._admission.refuse(session, request.code, request.msg)
                        return
                    if type(request) in QUERIES and session.authorized:
                        if self._turn.query_waits():
                            self._turn.postpone(session, frames[done:])
                            return
                        act = self._query
                    if type(request) in GREETINGS:
                        passes = False
                if passes or allows(session, request):
                    act(session, request)
                elif session.closing:
                    return
                elif type(request) in GREETINGS:
                    free, known = session.free_pass()
                done += 1
        except StoreError:
            raise
        except Exception:
            # The core's state may be inconsistent: fail the batch, reload from the store.
            self._service.abandon("internal error")
            self._admission.refuse_after_bug(session, frames[done])

    def _query(self, session: Session, request: Request) -> None:
        self._service.queries.rows_max = ROWS_SHARED if self._turn.shared else PAGE_ROWS_MAX
        with self._turn.query():
            self._service.handle(session, request)

    def _maintain(self, now: float, idle: bool) -> None:
        """Background work: a few times a second, and whenever the loop is idle."""
        self._store.maintain(idle)
        if self._log.pending:
            self._log.drain()
        if now < self._next_maintenance:
            return
        self._next_maintenance = now + MAINTENANCE_S
        self._sessions.maintain()
        self._admission.look(now)
        self._service.look_at_bus(now)
        self._refusals.flush()
        living = self._sessions.by_fileno
        for kept in (self._service.held, self._service.marks):
            kept.forget(lambda peer: living.get(peer.fileno) is not peer)
        if isinstance(self._prices, SharedBookPrices):
            self._prices.refresh()
        if self._metrics is not None:
            self._metrics.heartbeat()
            mode = self._service.core.stack.mode
            publish_now(self._metrics, self._sessions, self._waiting, mode)
            self._publish_store(self._metrics)

    def _publish_store(self, metrics: ProcessMetrics) -> None:
        if room := self._room.look():
            metrics.set("store_bytes", room.store)
            metrics.set("store_free_bytes", room.free)
        for name, count in self._store.checkpointer.take_errors().items():
            metrics.add(name, count)

    # Shutdown

    def _drain(self) -> None:
        """Answer every complete request that has arrived, so that no client has to repeat it.

        Ends after DRAIN_S at the latest, which only a client that keeps sending or does not read
        can cause.
        """
        if self._metrics is not None:
            self._metrics.set_state("draining")
        self._sessions.accept()
        self._sessions.stop_accepting()
        self._epoll.unregister(self._wake)
        deadline = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline:
            happened = self._iterate(0.0 if self._has_work() else DRAIN_POLL_S)
            unsent = any(session.unsent for session in self._sessions)
            if not (happened or unsent or self._has_work()):
                return

    def _close(self) -> None:
        self._log.drain()
        self._refusals.flush(end=True)
        self._sessions.close_all()
        self._epoll.close()
        with self._wake_lock:
            os.close(self._wake)
            self._wake = -1
        try:
            self._store.maintain(idle=True)
        finally:
            self._store.close()
        if self._metrics is not None:
            self._publish_store(self._metrics)
        if isinstance(self._prices, SharedBookPrices):
            self._prices.close()
