"""A process of its own: connects to the exchange, reads its messages, passes the trades on.

What strangers send is read here, so whatever it does to this process, the gateway goes on.  Trades
and events leave through a socket; when the gateway does not read, this process stops reading, too.

It is started by :mod:`app.market_data.live.session` with the descriptor of the socket as argument
and a :class:`Request` on standard input.
"""

import asyncio
import contextlib
import ctypes
import math
import os
import resource
import signal
import socket
import ssl
import sys
import time
from typing import Any, Final

import msgspec
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
)

from app.config.addresses import shown_address
from app.market_data.live.exchange.messages import (
    EVENT_MARK,
    TRADES_MARK,
    Connected,
    Event,
    Lost,
    Noticed,
    Request,
    Waiting,
    encode_event,
)
from app.market_data.live.exchange.trade_map import Other, Refused, TradeMap
from app.market_data.live.records import TRADE, Trade
from app.runtime.lifecycle import Backoff

OPEN_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 1.0
MESSAGE_BYTES_MAX: Final = 1 << 20
QUEUED_MESSAGES_MAX: Final = 64
TRADES_PER_SEND: Final = 512
MEMORY_BYTES_MAX: Final = 1 << 30
GOOD_AFTER_S: Final = 5.0
"""A connection that has lasted so long ends the growth of the pauses."""
REFUSED_S: Final = 30.0
REFUSED_S_MAX: Final = 600.0
"""Pause after an answer such as 403 or 429, unless the server names another, up to that."""
NOTICE_EVERY_S: Final = 1.0
TEXT_MAX: Final = 200
_PR_SET_PDEATHSIG: Final = 1


class Outbox:
    """The socket to the parent; events about single trades are counted and sent once a second."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._loop, self._lock = asyncio.get_running_loop(), asyncio.Lock()
        self._refused = self._others = 0
        self._refused_text = self._other_text = ""

    async def _send(self, packet: bytes) -> None:
        """Wait until the parent has room; one task at a time, or asyncio forgets the other."""
        async with self._lock:
            await self._loop.sock_sendall(self._socket, packet)

    async def send_event(self, event: Event) -> None:
        """Tell the parent."""
        await self._send(EVENT_MARK + encode_event(event))

    async def send_trades(self, trades: list[Trade], receive_ns: int) -> None:
        """Pass trades on, in the order of their arrival."""
        for first in range(0, len(trades), TRADES_PER_SEND):
            part = trades[first : first + TRADES_PER_SEND]
            rows = np.array(
                [(t.exchange_ns, receive_ns, t.price, t.trade_id, t.qty, t.symbol) for t in part],
                TRADE,
            )
            await self._send(TRADES_MARK + rows.tobytes())

    def notice(self, found: Refused | Other) -> None:
        """Count what is no trade; the first of a second is described."""
        if isinstance(found, Other):
            self._others += 1
            self._other_text = self._other_text or found.text
        else:
            self._refused += 1
            described = f"{found.field} {found.value!r}: {found.reason}"
            self._refused_text = self._refused_text or described

    async def send_notices(self) -> None:
        """What was counted since the last time; called once a second."""
        if not (self._refused or self._others):
            return
        notice = Noticed(
            self._refused,
            self._refused_text[:TEXT_MAX],
            self._others,
            self._other_text[:TEXT_MAX],
        )
        self._refused = self._others = 0
        self._refused_text = self._other_text = ""
        await self.send_event(notice)


async def receive(request: Request, connection: socket.socket) -> None:
    """Receive until the parent is gone.

    Raises:
        ExceptionGroup: the parent is gone.
    """
    outbox = Outbox(connection)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_notice_for_ever(outbox))
        tasks.create_task(_connect_for_ever(request, outbox))


async def _notice_for_ever(outbox: Outbox) -> None:
    while True:
        await asyncio.sleep(NOTICE_EVERY_S)
        await outbox.send_notices()


async def _connect_for_ever(request: Request, outbox: Outbox) -> None:
    trades = TradeMap(request.map, request.symbols)
    backoff = Backoff(request.reconnect_ms, request.reconnect_ms_max)
    while True:
        connected_s, pause_s = math.inf, 0.0
        try:
            async with connect(request.url, **_options(request)) as peer:
                await outbox.send_event(Connected(request.url))
                connected_s = time.monotonic()
                await _read(peer, request.subscribe, trades, outbox)
        except ConnectionClosed as error:
            reason = _why_closed(error)
        except InvalidStatus as error:
            reason, pause_s = _refusal(error)
        except (InvalidURI, InvalidProxy) as error:  # as a text they have the whole address
            reason, pause_s = f"unusable address: {error.msg}", REFUSED_S_MAX
        except ssl.SSLError as error:
            reason = f"TLS: {getattr(error, 'verify_message', '') or error.reason or error}"
        except ValueError:  # the text has parts of the address
            reason, pause_s = "unusable address", REFUSED_S
        except Exception as error:  # whatever it is, the next attempt may do better
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        else:
            reason = "closed"
        if time.monotonic() - connected_s >= GOOD_AFTER_S:
            backoff.reset()
        pause_s = max(pause_s, backoff.delay_s())
        await outbox.send_event(Lost(shown_address(reason)[:TEXT_MAX], pause_s))
        await asyncio.sleep(pause_s)
        await outbox.send_event(Waiting())


def _options(request: Request) -> dict[str, Any]:
    options: dict[str, Any] = {
        "open_timeout": OPEN_TIMEOUT_S,
        "close_timeout": CLOSE_TIMEOUT_S,
        "ping_interval": request.ping_s,
        "ping_timeout": request.ping_s,
        "max_size": MESSAGE_BYTES_MAX,
        "max_queue": QUEUED_MESSAGES_MAX,
        # What is compressed may be a thousand times as large, and trades are small.
        "compression": None,
        "user_agent_header": "trading-stack",
    }
    if request.url.startswith("wss://"):
        options["ssl"] = context = ssl.create_default_context()
        if request.ca_file:
            context.load_verify_locations(request.ca_file)
    return options


async def _read(peer: ClientConnection, subscribe: str, trades: TradeMap, outbox: Outbox) -> None:
    if subscribe:
        await peer.send(subscribe)
    while True:
        message = await peer.recv(decode=False)
        receive_ns = time.time_ns()
        found = list(trades.read(message))
        good = [each for each in found if isinstance(each, Trade)]
        if good:
            await outbox.send_trades(good, receive_ns)
        for each in found:
            if not isinstance(each, Trade):
                outbox.notice(each)


def _why_closed(error: ConnectionClosed) -> str:
    """Who closed, and why."""
    if error.sent is not None and (error.rcvd is None or not error.rcvd_then_sent):
        return f"closed by this side: {error.sent.code} {error.sent.reason}".strip()
    if error.rcvd is not None:
        return f"closed by the exchange: {error.rcvd.code} {error.rcvd.reason}".strip()
    return "broken"


def _refusal(error: InvalidStatus) -> tuple[str, float]:
    """Why the exchange does not let us in, and for how long to leave it in peace."""
    status = error.response.status_code
    pause_s = REFUSED_S if 400 <= status < 500 else 0.0
    # Without the header, or with several, a lookup error.
    with contextlib.suppress(LookupError, ValueError):
        wished_s = float(error.response.headers["Retry-After"])
        if math.isfinite(wished_s):
            pause_s = min(max(wished_s, 0.0), REFUSED_S_MAX)
    return f"refused by the exchange: HTTP {status} {error.response.reason_phrase}", pause_s


def main() -> None:
    """Run until the parent is gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    if os.getppid() != request.parent:
        return  # it died before it could be watched
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        connection.setblocking(False)
        try:
            asyncio.run(receive(request, connection))
        except* (BrokenPipeError, ConnectionResetError):
            pass  # the parent is gone


if __name__ == "__main__":
    main()
