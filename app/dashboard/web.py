"""The addresses of the page."""

import re
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from app.dashboard.commands import CommandRefused, Commands
from app.dashboard.hub import PAGES_MAX, Symbols
from app.dashboard.order_trace import Traces
from app.dashboard.prometheus import metrics_answer
from app.dashboard.sampler import Sampler
from app.dashboard.serving.access import Access
from app.dashboard.serving.guard import METRICS, Guard
from app.dashboard.serving.login import Login
from app.dashboard.serving.static_files import PAGE, FileRoutes, load_static
from app.model.symbols import MAX_SYMBOL_BYTES
from app.model.wire.reject_reasons import MAX_CLIENT_BYTES
from app.runtime.metrics.process_metrics import ProcessMetrics

PER_S_MAX: Final = {"/trace": 20, METRICS: 20}
"""Requests a second to addresses whose answer costs milliseconds, of all clients together."""
SYMBOL: Final = re.compile(rf"[!-~]{{0,{MAX_SYMBOL_BYTES}}}")


SYMBOLS_MAX: Final = 16
"""Of one stream, which the tabs of a browser share."""


class PageStream(StreamingResponse):
    """The snapshots of one page.

    The page is counted here and not by the generator: one that is left while its message is being
    sent is not told so, and waits for the garbage collector.
    """

    def __init__(self, sampler: Sampler, symbols: Symbols, last_event_id: str) -> None:
        self._sampler = sampler
        super().__init__(
            self._messages(symbols, last_event_id),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    async def _messages(self, symbols: Symbols, last_event_id: str) -> AsyncIterator[bytes]:
        yield b"retry: 1000\n\n"
        async for message in self._sampler.hub.messages(symbols, last_event_id):
            yield message

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send until the client leaves, or the hub ends."""
        self._sampler.page_opened()
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._sampler.page_closed()


class Web:
    """The application."""

    def __init__(
        self, sampler: Sampler, commands: Commands, access: Access, metrics: ProcessMetrics
    ) -> None:
        self._sampler, self._commands = sampler, commands
        self._traces = Traces(sampler.settings)
        files = FileRoutes(load_static(PAGE), "index.html")
        routes = [
            *files.routes,
            *Login(access).routes,
            Route("/events", self._events),
            Route("/trace", self._trace),
            Route("/commands/transport", self._transport, methods=["POST"]),
            Route("/commands/fault", self._fault, methods=["POST"]),
            Route(METRICS, self._metrics),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
        ]
        self.app = Guard(Starlette(routes=routes), access, metrics, PER_S_MAX)

    async def _events(self, request: Request) -> Response:
        symbols = tuple(dict.fromkeys(request.query_params.getlist("symbol"))) or ("",)
        if not all(SYMBOL.fullmatch(each) for each in symbols):
            return JSONResponse({"ok": False, "msg": "symbol: no such symbol"}, 400)
        if len(symbols) > SYMBOLS_MAX:
            return JSONResponse({"ok": False, "msg": f"symbol: over {SYMBOLS_MAX}"}, 400)
        if self._sampler.hub.pages >= PAGES_MAX:
            return JSONResponse({"ok": False, "msg": f"over {PAGES_MAX} open pages"}, 503)
        last_id = request.headers.get("last-event-id", "")
        return PageStream(self._sampler, symbols, last_id)

    async def _trace(self, request: Request) -> Response:
        client, order_id = (request.query_params.get(name, "") for name in ("client", "id"))
        digits = order_id.isascii() and order_id.isdigit() and len(order_id) < 19
        if not digits or not client or len(client.encode()) > MAX_CLIENT_BYTES:
            return JSONResponse({"ok": False, "msg": "trace needs client=NAME and id=NUMBER"}, 400)
        answer = await self._traces.of_order(client, int(order_id))
        return JSONResponse(answer, 200 if answer["ok"] else 404)

    async def _transport(self, request: Request) -> Response:
        return await self._command(request, self._commands.transport)

    async def _fault(self, request: Request) -> Response:
        return await self._command(request, self._commands.fault)

    @staticmethod
    async def _command(request: Request, do: Any) -> Response:
        try:
            return JSONResponse({"ok": True, **await do(await read_body(request))})
        except CommandRefused as error:
            return JSONResponse({"ok": False, "msg": str(error)}, 409)

    async def _metrics(self, _request: Request) -> Response:
        answer = await run_in_threadpool(metrics_answer, self._sampler.settings)
        return Response(answer.body, answer.status, media_type=answer.content_type)

    async def _healthz(self, _request: Request) -> Response:
        return JSONResponse({"ok": True})

    async def _readyz(self, _request: Request) -> Response:
        problem = self._sampler.problem()
        return JSONResponse({"ok": not problem, "msg": problem}, 503 if problem else 200)


async def read_body(request: Request) -> bytes:
    """The body of a command; its length has been checked, so the server reads no more.

    Raises:
        CommandRefused: it is no text, or the client leaves before its end.
    """
    try:
        body = await request.body()
        body.decode()
    except ClientDisconnect:
        raise CommandRefused("the client has left") from None
    except UnicodeDecodeError:
        raise CommandRefused("not a command: not UTF-8") from None
    return body
