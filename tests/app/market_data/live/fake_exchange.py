"""A websocket server that plays trades as Binance sends them, and misbehaves when told to."""

import asyncio
import contextlib
import http
import json
import random
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBBTC")
Message = str | bytes
Act = Callable[["FakeExchange"], None]


def trade(symbol: str, trade_id: int, price: str, time_ms: int, **changes: Any) -> dict[str, Any]:
    """The documented payload of ``<symbol>@trade``."""
    found = {
        "e": "trade",
        "E": time_ms + 1,
        "s": symbol,
        "t": trade_id,
        "p": price,
        "q": "0.01500000",
        "T": time_ms,
        "m": True,
        "M": True,
    }
    return found | changes


def walk(seed: int, start_ms: int | None = None) -> Iterator[dict[str, Any]]:
    """Trades without an end: prices that wander, ids without gaps for each symbol."""
    rng = random.Random(seed)
    time_ms = int(time.time() * 1000) - 60_000 if start_ms is None else start_ms
    price = {"BTCUSDT": 6_700_000, "ETHUSDT": 340_000, "BNBBTC": 90_000}
    ids = dict.fromkeys(SYMBOLS, 1000)
    while True:
        symbol = rng.choice(SYMBOLS)
        price[symbol] = max(1000, price[symbol] + rng.randrange(-400, 401))
        ids[symbol] += 1
        time_ms += rng.randrange(0, 3)
        whole, cents = divmod(price[symbol], 100)
        yield trade(symbol, ids[symbol], f"{whole}.{cents:02d}000000", time_ms)


class FakeExchange:
    """Plays messages to whoever is connected; what is played while nobody is, is missed.

    ``acts``: what to do just before the message with that number is played.
    """

    def __init__(
        self,
        *,
        seed: int = 1,
        per_s: float = 2000.0,
        limit: int = 1 << 40,
        acts: dict[int, Act] | None = None,
        combined: bool = False,
        tls: ssl.SSLContext | None = None,
        waits: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """``waits``: plays nothing before the first client has come."""
        self.trades = walk(seed)
        self.played = 0
        self.sent: list[dict[str, Any]] = []
        """The trades that went to a client."""
        self.requests: list[str] = []
        self.headers: list[Headers] = []
        self.subscriptions: list[Any] = []
        self.refuse_with: list[tuple[int, dict[str, str]]] = []
        """An answer for each of the next attempts to connect."""
        self.connections = 0
        self.host, self.port = host, port
        self._per_s, self._limit, self._combined = per_s, limit, combined
        self._acts = dict(acts or {})
        self._tls, self._waits = tls, waits
        self._clients: set[ServerConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.paused = False

    def __enter__(self) -> "FakeExchange":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        scheme = "ws" if self._tls is None else "wss"
        return f"{scheme}://{self.host}:{self.port}/ws"

    @property
    def clients(self) -> int:
        return len(self._clients)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stopped = asyncio.Event()
        async with serve(
            self._accept,
            self.host,
            self.port,
            ssl=self._tls,
            process_request=self._answer,
            ping_interval=None,
            close_timeout=0.2,
        ) as server:
            self._server: Server = server
            self.port = next(iter(server.sockets)).getsockname()[1]
            self._ready.set()
            playing = asyncio.create_task(self._play())
            await self._stopped.wait()
            playing.cancel()
            for client in list(self._clients):
                client.transport.abort()

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request.path)
        self.headers.append(request.headers)
        if not self.refuse_with:
            return None
        status, headers = self.refuse_with.pop(0)
        response = connection.respond(http.HTTPStatus(status), "no")
        for name, value in headers.items():
            response.headers[name] = value
        return response

    async def _accept(self, client: ServerConnection) -> None:
        self.connections += 1
        self._clients.add(client)
        try:
            async for message in client:
                asked = json.loads(message)
                self.subscriptions.append(asked)
                await client.send(json.dumps({"result": None, "id": asked.get("id")}))
        except Exception:
            pass
        finally:
            self._clients.discard(client)

    async def _play(self) -> None:
        while self._waits and not self._clients:
            await asyncio.sleep(0.005)
        began_s, began = time.monotonic(), self.played
        while True:
            if self.paused or self.played >= self._limit:
                await asyncio.sleep(0.01)
                began_s, began = time.monotonic(), self.played
                continue
            due = began + int((time.monotonic() - began_s) * self._per_s)
            while self.played < min(due, self._limit) and not self.paused:
                self._play_one()
            await asyncio.sleep(0.002)

    def _play_one(self) -> None:
        if act := self._acts.pop(self.played, None):
            act(self)
        found = next(self.trades)
        self.played += 1
        if self._clients:
            self.sent.append(found)
        wrapped = {"stream": f"{found['s'].lower()}@trade", "data": found}
        self.say(json.dumps(wrapped if self._combined else found))

    # ---- what it does; in its own thread

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def say(self, message: Message) -> None:
        """Send a message to every client."""
        for client in list(self._clients):
            self._begin(_send(client, message))

    def later(self, act: Act) -> None:
        """From another thread: do this soon."""
        self._loop.call_soon_threadsafe(act, self)

    def drop(self) -> None:
        """Break every connection."""
        for client in list(self._clients):
            client.transport.abort()
            self._clients.discard(client)

    def half_frame(self) -> None:
        """The begin of a frame of 100 bytes, then nothing any more."""
        for client in list(self._clients):
            client.transport.write(b'\x81\x64{"e":"trade"')
        self._loop.call_later(0.05, self.drop)

    def freeze(self) -> None:
        """Neither reads nor answers pings, as behind a dead router."""
        for client in list(self._clients):
            client.transport.pause_reading()
            self._clients.discard(client)

    def leave(self) -> None:
        """Close as a server that shuts down."""
        for client in list(self._clients):
            self._begin(client.close(1001, "server shutdown"))
            self._clients.discard(client)

    def skip(self, count: int) -> None:
        """Trades that nobody is told."""
        for _ in range(count):
            next(self.trades)


async def _send(client: ServerConnection, message: Message) -> None:
    with contextlib.suppress(Exception):
        await client.send(message)
