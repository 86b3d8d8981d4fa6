"""The strategy's connection to the order manager: one, long-lived, pipelined.

Every order carries an id, and the order manager answers a repeated id with the stored answer.  So
an order without an answer after a timeout or a lost connection is sent again.
"""

import json
import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import msgspec

from app.config.loading import load_settings
from app.config.settings import Settings, SettingsError
from app.model.money import WHOLE, Scale
from app.model.wire.answers import Answer, answer_decoder, fraction_problem
from app.model.wire.frames import FrameBuffer, RemoteProtocolError, json_frame
from app.model.wire.order_json import encode_marks
from app.runtime.lifecycle import POLL_S, Backoff, FatalError, Stop
from app.runtime.log import get_logger
from app.runtime.net.access import connect_orders
from app.runtime.net.receive import read_until

log = get_logger()

RECV_BYTES = 32 * 1024
"""Below malloc's mmap threshold: a larger receive would map and unmap its memory every time."""

RETRY_PAUSE_S = 0.02
"""Pause before repeating an order that was answered with a retryable code."""


class EncodedOrder(NamedTuple):
    """An order's id, its frame, delimiter included, and the prices to send before it.

    ``marks``: the prices, by symbol, that have changed since the order before; None if no limit of
    the order manager needs them.
    """

    id: int
    frame: bytes
    marks: Mapping[str, float] | None = None


class StopRequested(Exception):
    """A stop was requested during a wait; for orders: before all of them were answered."""


_decode_object = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
"""Numbers with a point stay exact."""


class OrderClient:
    """Sends orders and waits for their answers, across timeouts and reconnects."""

    def __init__(
        self,
        host: str,
        port: int,
        timeout_s: float,
        *,
        stop: Stop | None = None,
        heartbeat: Callable[[], None] = lambda: None,
        count: Callable[[str], None] = lambda _name: None,
        backoff: Backoff | None = None,
        opener: Callable[[float], socket.socket] | None = None,
        client: str = "",
        proof: str = "",
        on_sent: Callable[[int, int], None] = lambda _first, _sent_ns: None,
        scale: Scale = WHOLE,
    ) -> None:
        """``opener`` makes the connection, given a timeout in seconds; by default plain TCP.

        ``client``: whose orders these are, for the log.  ``proof``: of the sender of the marks
        (:class:`OrderRequest`).  ``on_sent``: told the index of the first order of :meth:`submit`
        that was sent, again where necessary, and when (CLOCK_MONOTONIC).  ``scale``: of quantities.
        """
        self._decode = answer_decoder(scale)
        self._proof, self._on_sent = proof, on_sent
        self._marks: dict[str, float] = {}
        """As of the last answered order; a new connection begins with them."""
        self._marks_sent = False
        self._client = client
        self._open = opener or partial(socket.create_connection, (host, port))
        self._address, self._timeout_s = (host, port), timeout_s
        # Not `stop or Stop()`: a Stop is false until it is requested.
        self._stop = Stop() if stop is None else stop
        self._heartbeat, self._count = heartbeat, count
        self._backoff = backoff or Backoff(50, 2000)
        self._socket: socket.socket | None = None
        self._frames = FrameBuffer()
        self._connected_before = False
        self._hangup = select.poll()
        self._waiting_since_s: float | None = None
        self._next_attempt_s = 0.0

    @property
    def waiting_s(self) -> float:
        """How long the connection has been down, or an order has been waiting; 0 if neither."""
        return 0.0 if self._waiting_since_s is None else time.monotonic() - self._waiting_since_s

    def _waits(self) -> None:
        # Called only when something takes long, so that an order answered at once costs nothing.
        if self._waiting_since_s is None:
            self._waiting_since_s = time.monotonic()

    @classmethod
    def from_settings(cls, settings: Settings, **keywords: Any) -> "OrderClient":
        """A client of the order manager that the settings name."""
        backoff = Backoff(settings.reconnect_delay_ms, settings.reconnect_delay_ms_max)
        host, port = settings.order_manager_host, settings.order_port
        opener = partial(connect_orders, settings, as_stack=True)
        return cls(host, port, settings.order_timeout_s, backoff=backoff, opener=opener, **keywords)

    def connect(self) -> None:
        """Connect; retry until the order manager accepts.

        Raises:
            StopRequested: a stop was requested meanwhile.
        """
        while self._socket is None:
            if self._stop:
                raise StopRequested
            if not self._try_to_connect():
                self._backoff.sleep(self._stop, self._heartbeat)

    def _try_to_connect(self) -> bool:
        try:
            connection = self._open(POLL_S * 4)
        except (OSError, SettingsError) as error:
            # A token file that is wrong at the start is refused; one that is being changed is not.
            if isinstance(error, SettingsError) and not self._connected_before:
                raise
            self._waits()
            log.warning("order_manager_unreachable", error=str(error))
            return False
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(POLL_S))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(self._timeout_s))
        # ssl retries a blocking read after SO_RCVTIMEO, so TLS needs a Python timeout.
        connection.settimeout(POLL_S if isinstance(connection, ssl.SSLSocket) else None)
        self._socket, self._frames = connection, FrameBuffer()
        self._hangup.register(connection, select.POLLRDHUP)
        if self._connected_before:
            self._count("reconnects")
        self._connected_before = True
        log.info("order_manager_connected", peer=f"{self._address[0]}:{self._address[1]}")
        return True

    def maintain(self) -> None:
        """Call it a few times a second while no order is waiting.

        Nothing is read then, so a connection that the order manager has closed, or a crash of it,
        would only be noticed at the next order.  At most one attempt to connect.
        """
        if self._socket is not None and self._hangup.poll(0):
            log.warning("order_manager_lost")
            self.close()
        if self._socket is None and time.monotonic() >= self._next_attempt_s:
            self._waits()
            if not self._try_to_connect():
                self._next_attempt_s = time.monotonic() + self._backoff.delay_s()
        if self._socket is not None:
            self._waiting_since_s = None

    def submit(self, orders: list[EncodedOrder]) -> list[Answer]:
        """Send ``orders``, again where necessary; return their final answers in order.

        Raises:
            FatalError: an answer has a fraction, and here quantities are whole.
            StopRequested: a stop was requested before the last answer.
        """
        answers: list[Answer] = []
        while len(answers) < len(orders):
            self.connect()
            try:
                self._exchange(orders, answers)
                self._backoff.reset()
            except (OSError, RemoteProtocolError, msgspec.DecodeError) as error:
                self.close()
                if problem := fraction_problem(error):
                    raise FatalError(problem, final=True) from None
                self._waits()
                waiting = [order.id for order in orders[len(answers) :]]
                log.warning(
                    "orders_unanswered",
                    client=self._client,
                    id=waiting[0] if waiting else None,
                    error=str(error),
                    waiting=len(waiting),
                )
                self._backoff.sleep(self._stop, self._heartbeat)
        self._waiting_since_s = None
        return answers

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one command, again where necessary; return its final answer.

        Raises:
            StopRequested: a stop was requested before the answer.
        """
        frame = json_frame(msgspec.json.encode(request))
        while True:
            self.connect()
            assert self._socket is not None
            try:
                self._socket.sendall(frame)
                deadline = time.monotonic() + self._timeout_s
                while not (frames := self._receive(deadline)):
                    pass
                answer = _decode_object(frames[0])
                if not answer.get("retryable"):
                    return answer
                raise ConnectionAbortedError(f"{answer.get('code')}: try again later")
            except (OSError, RemoteProtocolError, msgspec.DecodeError) as error:
                self.close()
                log.warning("command_unanswered", error=str(error))
                self._backoff.sleep(self._stop, self._heartbeat)

    def _exchange(self, orders: list[EncodedOrder], answers: list[Answer]) -> None:
        """Send the orders without an answer once; append each answer to ``answers``."""
        assert self._socket is not None
        first = len(answers)
        sent_ns = time.monotonic_ns()
        if orders[0].marks is None:
            self._socket.sendall(b"".join([order.frame for order in orders[first:]]))
        else:
            self._socket.sendall(self._with_marks(orders[first:]))
        self._on_sent(first, sent_ns)
        deadline = time.monotonic() + self._timeout_s
        while len(answers) < len(orders):
            for frame in self._receive(deadline):
                answer = self._decode(frame)
                wanted = orders[len(answers)].id if len(answers) < len(orders) else None
                if answer.order_id != wanted and not (wanted and answer.order_id is None):
                    raise RemoteProtocolError(
                        f"answer to order {answer.order_id}, expected order {wanted}"
                    )
                if answer.retryable:
                    # Not final: send this order and those after it again.
                    self._pause_before_retry(orders[len(answers)], answer)
                    raise ConnectionAbortedError(f"{answer.code}: try again later")
                self._marks.update(orders[len(answers)].marks or ())
                answers.append(answer)
                deadline = time.monotonic() + self._timeout_s

    def _with_marks(self, orders: list[EncodedOrder]) -> bytes:
        """The frames of orders, each after the prices that its decision needs."""
        frames = []
        if not self._marks_sent:
            frames.append(encode_marks(self._proof, self._marks))
            self._marks_sent = True
        for order in orders:
            frames += (encode_marks(self._proof, order.marks or {}), order.frame)
        return b"".join(frames)

    def _receive(self, deadline: float) -> list[bytes]:
        assert self._socket is not None
        try:
            data = self._socket.recv(RECV_BYTES)
        except (BlockingIOError, TimeoutError):
            self._waits()
            self._heartbeat()
            if self._stop:
                raise StopRequested from None
            if time.monotonic() > deadline:
                self._count("orders_timed_out")
                raise TimeoutError(f"no answer within {self._timeout_s:g} s") from None
            return []
        if not data:
            raise ConnectionResetError("closed by the order manager")
        return self._frames.feed(data)

    def _pause_before_retry(self, order: EncodedOrder, answer: Answer) -> None:
        log.warning(
            "order_held", client=self._client, id=order.id, code=answer.code, msg=answer.msg
        )
        time.sleep(RETRY_PAUSE_S)

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._hangup.unregister(self._socket)
            self._socket.close()
            self._socket = None
            self._marks_sent = False


def _timeval(seconds: float) -> bytes:
    """``struct timeval`` of a 64-bit little-endian machine."""
    whole = int(seconds)
    micros = int((seconds - whole) * 1e6)
    return whole.to_bytes(8, "little") + micros.to_bytes(8, "little")


def send_order(order: Mapping[str, Any], settings: Settings | None = None) -> dict[str, Any]:
    """Send one order to the order manager and return its answer, both as JSON objects.

    Opens a connection per call, for scripts and tests; the strategy process keeps one open.

    Raises:
        OSError: the order manager cannot be reached, or did not answer within ``ORDER_TIMEOUT_S``.
    """
    return ask_once(order, settings or load_settings())


def ask_once(request: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Send one request on a connection of its own, once; return its answer.

    Raises:
        OSError: the order manager cannot be reached, or did not answer within ``ORDER_TIMEOUT_S``.
    """
    with connect_orders(settings, settings.order_timeout_s) as connection:
        connection.sendall(json_frame(json.dumps(request, allow_nan=False).encode()))
        return dict(json.loads(read_until(connection)[:-1]))
