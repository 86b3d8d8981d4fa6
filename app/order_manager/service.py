"""The order manager without its sockets: requests in, one durable batch at a time, answers out.

A batch is :meth:`OrderService.begin`, any number of calls of :meth:`OrderService.handle`, and
:meth:`OrderService.finish`, which commits and only then returns the answers.

A batch is processed step by step (decode, decide, encode, write), each step for all its orders.
Processing order by order takes a quarter longer, because the steps evict each other from the
processor's caches.
"""

import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

import msgspec

from app.config.settings import Settings
from app.execution.accounts import ACTIVE, MODE_NAMES
from app.execution.order_core import OTHER_BOOK, OrderCore
from app.execution.peer_marks import PeerMarks
from app.execution.pending_rows import Recovered
from app.execution.prices import PriceSource
from app.execution.wiring import build_core
from app.model.orders import OPEN_STATES, STATUS_NAMES, Order, OrderRequest
from app.model.reject_codes import RejectCode
from app.model.requests import BusAlive, Command, Marks, Ping, Reject, Request
from app.model.timestamps import utc_text
from app.model.wire.decoders import decoder_of_all
from app.model.wire.order_answers import ack_encoder, encode_object, encode_reject
from app.order_manager.access.bus_watch import BusWatch
from app.order_manager.access.grants import EVERYTHING, Grant
from app.order_manager.counts import Counts
from app.order_manager.held_orders import HeldOrders
from app.order_manager.order_log import Event
from app.order_manager.queries import OrderQueries, canceled_note
from app.order_manager.store.marks import market_of
from app.order_manager.store.store import OrderStore, StoreUnavailableError
from app.runtime.log import get_logger

log = get_logger()

RETRY_NS: Final = 100_000_000
"""Time between attempts to use a store that failed."""
CANCELS_MAX: Final = 200
"""Orders of ended connections that a batch cancels: about as long as a batch of orders takes."""
NOT_ORDERS: Final = frozenset({RejectCode.BAD_JSON, RejectCode.UNKNOWN_OP})
"""Rejects of frames that are not counted as orders."""


class AnchoredClock:
    """Wall time that never jumps: the wall clock at the start, plus the monotonic clock.

    Setting the system's clock while the process runs has no effect.  The clock starts no earlier
    than ``not_before_ns``, so times in the store never go backwards.
    """

    def __init__(self, not_before_ns: int = 0) -> None:
        self._offset_ns = max(time.time_ns(), not_before_ns) - time.monotonic_ns()

    def __call__(self) -> int:
        """Nanoseconds since the epoch, UTC."""
        return time.monotonic_ns() + self._offset_ns


Peer = Any
"""Whoever sends requests and gets their answers: a session of the server."""
_Acked = tuple[Order, str, bool]
"""An order to acknowledge, its client's name, and whether the request is a repetition."""


class OrderService:
    """Requests of any number of peers against one core and one store."""

    def __init__(
        self,
        core: OrderCore,
        store: OrderStore,
        clock: Callable[[], int] | None = None,
        bus: BusWatch | None = None,
    ) -> None:
        self.core, self.store = core, store
        self.decode_all, self._encode_ack = decoder_of_all(core.scale), ack_encoder(core.scale)
        self.counts = Counts()
        self.events: list[Event] = []
        """Of the current batch, for the log."""
        self.available = True
        found = store.load()
        core.recover(found)
        _warn_of_modes(core, found)
        self._clock = clock or AnchoredClock(found.last_at_ns)
        self.queries = OrderQueries(core, store)
        store.checkpointer.read_marks = lambda: market_of(core, self._clock())
        self._answers: list[tuple[Peer, bytes | _Acked]] = []
        """In the order of the requests; ACKs of closed orders are encoded by :meth:`finish`."""
        self._uncommitted: list[tuple[int, OrderRequest | Command]] = []
        """Index into the answers, and the request, of each answer that depends on the commit."""
        self.held: HeldOrders[Peer] = HeldOrders(core.gate.config.replaying)
        self.marks: PeerMarks[Peer] = PeerMarks()
        self.grant_of: Callable[[Peer], Grant] = lambda _peer: EVERYTHING
        """What a peer's queries may show."""
        self.bus = bus or BusWatch(Settings(), 0.0)
        self._bus_lost_s = 0.0
        """Not 0: the next batch restricts the stack for it."""
        self._restricts = False
        """Whether the current batch does."""
        self._left: dict[str, None] = {}
        """Clients whose connection has ended, and whose open orders are still to be found."""
        self._to_cancel: dict[tuple[int, int], None] = {}
        """Client number and id of their orders; those are stored, so the numbers never change."""
        self._canceling: list[tuple[int, int]] = []
        """Of these, the ones of the current batch."""
        self._batch_error = ""
        self._retry_ns = 0
        self._fills_before = 0
        self.now_ns = self._clock()

    def begin(self) -> None:
        """Start a batch: read the clock, and process events of resting orders."""
        self.now_ns = self._clock()
        self.events.clear()
        if not self.available:
            self._retry_store()
        self._fills_before = self.core.last_fill_no
        if self.available and self._bus_lost_s:
            self._restrict()
        if self.available and (self.core.open or self._left or self._to_cancel):
            try:
                for order in self.core.poll(self.now_ns):
                    status = STATUS_NAMES[order.status]
                    self.events.append((status, order.copy(), self.core.name_of(order)))
                self._cancel_of_left()
            except StoreUnavailableError as error:
                self._batch_error = str(error)

    def look_at_bus(self, now_s: float) -> None:
        """Have the next batch restrict the stack if the bus is lost for too long."""
        self._bus_lost_s = self.bus.look(now_s, self.core.stack.mode)

    def _restrict(self) -> None:
        request = self.bus.request(self._bus_lost_s, self.core.stack.mode)
        self._bus_lost_s, self._restricts = 0.0, True
        self.queries.answer(request, self.now_ns, EVERYTHING, "the order manager itself")
        if event := self.queries.event:
            self.events.append(event)

    def cancel_of_left(self, clients: Iterable[str]) -> None:
        """Cancel the orders of these clients that are open now, in the next batches.

        What they place after that stays, under the same names too.
        """
        self._left.update(dict.fromkeys(clients))

    @property
    def cancels_wait(self) -> bool:
        """Whether the next batch has orders of ended connections to cancel."""
        return bool(self._to_cancel) and self.available

    def _cancel_of_left(self) -> None:
        core = self.core
        if self._left:
            self._to_cancel.update(dict.fromkeys(core.open_of(self._left)))
            self._left.clear()
        self._canceling = list(islice(self._to_cancel, CANCELS_MAX))
        for order in core.cancel_all(self._canceling, "connection ended", self.now_ns):
            name = core.name_of(order)
            self.events.append(canceled_note(order, name, " reason=connection_ended", core.scale))

    def handle(self, peer: Peer, request: Request) -> None:
        """Process one decoded frame; :meth:`finish` returns its answer."""
        if isinstance(request, OrderRequest):
            self._new_order(peer, request)
        elif isinstance(request, Marks):
            self._take_marks(peer, request)
        elif isinstance(request, Reject):
            if request.code in NOT_ORDERS:
                self.counts.frames_bad += 1
            else:
                self.counts.orders_received += 1
                self.counts.orders_rejected += 1
            self._answers.append((peer, encode_reject(request)))
        else:
            self._command(peer, request)

    def _take_marks(self, peer: Peer, request: Marks) -> None:
        if self.core.gate.at_tick(request.proof):
            self.marks.update(peer, request)
        else:
            self._answers.append((peer, encode_reject(OTHER_BOOK)))

    def abandon(self, reason: str) -> None:
        """Fail this batch: its requests are answered as if the store had failed."""
        self._batch_error = reason
        # The caller answers the request that failed, with a different code.
        self._uncommitted = [entry for entry in self._uncommitted if entry[0] < len(self._answers)]

    def answer(self, peer: Peer, frame: bytes) -> None:
        """Queue an answer that the caller has encoded, in its place among the others."""
        self._answers.append((peer, frame))

    def _new_order(self, peer: Peer, request: OrderRequest) -> None:
        counts = self.counts
        counts.orders_received += 1
        if self.held and (waits := self.held.check(peer, request)) is not None:
            counts.orders_rejected += 1
            self._answers.append((peer, encode_reject(waits)))
            return
        self._uncommitted.append((len(self._answers), request))
        if not self.available or self._batch_error:
            self._answers.append((peer, b""))
            self._batch_error = self._batch_error or "the store is not available"
            return
        try:
            result = self.core.submit(request, self.now_ns, self.marks.of(peer))
        except StoreUnavailableError as error:
            self._batch_error = str(error)
            self._answers.append((peer, b""))
            return
        if isinstance(result, Reject):
            counts.orders_rejected += 1
            if result.retryable:
                self.held.hold(peer, request)
            self._answers.append((peer, encode_reject(result)))
            return
        order, duplicate = result
        acked = (order, request.client, duplicate)
        if order.status in OPEN_STATES:
            # It may still change: its ACK and its log line show the order as it stands now.
            self._answers.append((peer, self._encode_ack(*acked)))
            order = order.copy()
        else:
            self._answers.append((peer, acked))
        if duplicate:
            counts.orders_duplicate += 1
            self.events.append(("Repeated", order, request.client))
        elif order.code:
            counts.orders_rejected += 1
            self.events.append((STATUS_NAMES[order.status], order, request.client))
        else:
            counts.orders_acked += 1
            self.events.append(("Received", order, request.client))

    def _command(self, peer: Peer, command: Command) -> None:
        if isinstance(command, Ping):
            state: dict[str, Any] = {"ok": True}
            if not self.available:
                state = _unavailable("the store does not answer")
            if self.core.scale.decimals:
                state["qty_decimals"] = self.core.scale.decimals
            self._answers.append((peer, encode_object(state)))
            return
        if isinstance(command, BusAlive):
            self.bus.alive(time.monotonic())
            told = {"ok": True, "on_bus_loss": self.bus.rule}
            self._answers.append((peer, encode_object(told)))
            return
        self._uncommitted.append((len(self._answers), command))
        if not self.available or self._batch_error:
            self._batch_error = self._batch_error or "the store is not available"
            self._answers.append((peer, b""))
            return
        try:
            asker = getattr(peer, "peer", "")
            answer = self.queries.answer(command, self.now_ns, self.grant_of(peer), asker)
        except StoreUnavailableError as error:
            self._batch_error = str(error)
            answer = b""
        self._answers.append((peer, answer))
        if event := self.queries.event:
            self.events.append(event)

    def finish(self) -> list[tuple[Peer, bytes]]:
        """Commit the batch and return its answers, which may now be sent."""
        # Encode before waiting for the disk, while the orders are still in the caches.
        answers = self._encode_answers()
        if not self._batch_error:
            begin_ns = time.monotonic_ns()
            try:
                if self.store.commit():
                    self.counts.committed_ns = time.monotonic_ns()
                    self.counts.commit_ns = self.counts.committed_ns - begin_ns
                    self.counts.commits += 1
                    self.counts.fills += self.core.last_fill_no - self._fills_before
                    self.core.committed()
            except StoreUnavailableError as error:
                self._batch_error = str(error)
        if self._batch_error:
            self._fail_batch(answers)
        elif self.available:
            for key in self._canceling:
                del self._to_cancel[key]
            if self._restricts:
                self.bus.restricted()
        self._canceling, self._restricts = [], False
        self._answers.clear()
        self._uncommitted.clear()
        return answers

    def _encode_answers(self) -> list[tuple[Peer, bytes]]:
        encode_ack = self._encode_ack
        try:
            return [
                (peer, answer if isinstance(answer, bytes) else encode_ack(*answer))
                for peer, answer in self._answers
            ]
        except Exception:
            # A bug in our code: fail the whole batch; none of its orders is acknowledged.
            log.exception("bug", answers=len(self._answers))
            self._batch_error = "internal error"
            return [(peer, a if isinstance(a, bytes) else b"") for peer, a in self._answers]

    def _fail_batch(self, answers: list[tuple[Peer, bytes]]) -> None:
        """Nothing of the batch was stored: reject all its requests, and roll back."""
        reason, self._batch_error = self._batch_error, ""
        for index, request in self._uncommitted:
            order_id = getattr(request, "id", None)
            details = {} if order_id is None else {"id": order_id}
            reject = Reject(RejectCode.STORE_UNAVAILABLE, reason, details, retryable=True)
            peer = answers[index][0]
            answers[index] = (peer, encode_reject(reject))
            if isinstance(request, OrderRequest):
                self.held.hold(peer, request)
        # Every order of the batch is answered with a reject.
        self.counts.orders_rejected = self.counts.orders_received
        self.counts.orders_acked = self.counts.orders_duplicate = 0
        self.events.clear()
        self.store.rollback()
        if self.available:
            log.error("store_unavailable", path=self.store.path, error=reason)
            self.available = False
            self._retry_ns = self.now_ns

    def _retry_store(self) -> None:
        """Check whether the store works again; if so, reload the core from it.

        Raises:
            StoreError: the store is damaged; this process cannot continue.
        """
        if self.now_ns < self._retry_ns:
            return
        self._retry_ns = self.now_ns + RETRY_NS
        try:
            self.store.probe()
            self.core.recover(self.store.load())
            self.queries.forget()
        except StoreUnavailableError:
            return
        self.available = True
        log.info("store_available", path=self.store.path)

    @property
    def has_timed_work(self) -> bool:
        """Whether there is work without a request: resting orders, a lost bus, a store to retry."""
        waits = self.core.open or self._left or self._to_cancel or self._bus_lost_s
        return bool(waits) or not self.available


def _warn_of_modes(core: OrderCore, found: Recovered) -> None:
    """Say at the start that a mode of an earlier time still refuses orders."""
    accounts = [a for a in (core.stack, *core.clients.values()) if a.mode != ACTIVE]
    if not accounts:
        return
    first, others = accounts[0], len(accounts) - 1
    reason, at_ns = found.mode_changes.get(first.client_no, ("", 0))
    mend = "python -m app orders resume"
    log.warning(
        "orders_restricted",
        account=first.label,
        mode=MODE_NAMES[first.mode],
        since=utc_text(at_ns, 3),
        reason=reason,
        mend=mend if first is core.stack else f"{mend} --client {first.name}",
        **({"other_clients": others} if others else {}),
    )


def _unavailable(reason: str) -> dict[str, Any]:
    return {
        "ok": False,
        "msg": reason,
        "code": RejectCode.STORE_UNAVAILABLE.name,
        "retryable": True,
    }


def build_service(settings: Settings, store: OrderStore, prices: PriceSource) -> OrderService:
    """The core of one order manager on its store, behind the service."""
    core = build_core(msgspec.structs.asdict(settings), prices, store.pending, store)
    return OrderService(core, store, bus=BusWatch(settings, time.monotonic()))
