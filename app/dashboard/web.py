"""The addresses of the page, and the checks that every request passes first."""

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from app.dashboard.access import COOKIE, HEADERS, SESSION_S, Access, Refusal
from app.dashboard.commands import CommandRefused, Commands
from app.dashboard.hub import PAGES_MAX, Symbols
from app.dashboard.order_trace import Traces
from app.dashboard.prometheus import metrics_answer
from app.dashboard.sampler import Sampler
from app.model.symbols import MAX_SYMBOL_BYTES
from app.model.token_bucket import TokenBucket
from app.model.wire.reject_reasons import MAX_CLIENT_BYTES
from app.runtime.metrics.process_metrics import ProcessMetrics

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
METRICS: Final = "/metrics"
OPEN_TO_ALL: Final = frozenset({"/healthz", "/readyz", "/login"})
"""Needed before a token can be shown; they tell nothing about the run."""
PER_S_MAX: Final = {"/trace": 20, METRICS: 20}
"""Requests a second to addresses whose answer costs milliseconds, of all clients together."""
SYMBOL: Final = re.compile(rf"[!-~]{{0,{MAX_SYMBOL_BYTES}}}")


SYMBOLS_MAX: Final = 16
"""Of one stream, which the tabs of a browser share."""


class File(NamedTuple):
    """A file of the page."""

    body: bytes
    type: str


def load_static() -> dict[str, File]:
    """Every file of the page, by name.  They are read once: no path of a request is ever opened."""
    folder = Path(__file__).with_name("static")
    return {
        path.relative_to(folder).as_posix(): File(path.read_bytes(), TYPES[path.suffix])
        for path in sorted(folder.rglob("*"))
        if path.suffix in TYPES
    }


class Guard:
    """ASGI middleware: refuses, counts and logs what is not allowed; adds the headers."""

    def __init__(self, app: Any, access: Access, metrics: ProcessMetrics) -> None:
        self._app, self._access, self._metrics = app, access, metrics
        self._buckets = {path: TokenBucket(per_s) for path, per_s in PER_S_MAX.items()}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        refusal = self._refuse(scope, headers)
        if refusal is None:
            self._metrics.add("requests")
            await self._app(scope, receive, send_with_headers)
            return
        self._metrics.add("requests_refused")
        host = scope["client"][0] if scope["client"] else "?"
        self._access.log_refusal(host, refusal)
        answer: Response = JSONResponse({"ok": False, "msg": refusal.reason}, refusal.status)
        if refusal.status == 401:
            if scope["path"] == "/" and scope["method"] == "GET":
                answer = Response(None, 303, {"location": "/login"})
            else:
                answer.headers["www-authenticate"] = "Bearer"
        # The body was not read: the connection cannot be used again.
        answer.headers["connection"] = "close"
        await answer(scope, receive, send_with_headers)

    def _refuse(self, scope: Any, headers: dict[str, str]) -> Refusal | None:
        access, method, path = self._access, scope["method"], scope["path"]
        if method not in ("GET", "HEAD", "POST"):
            return Refusal(405, f"{method[:20]}: GET, HEAD or POST")
        if method != "POST" and ("content-length" in headers or "transfer-encoding" in headers):
            return Refusal(400, "a body: only commands have one")
        refusal = access.refuse_origin(headers, scope["scheme"], scraped=path == METRICS)
        if refusal is None and method == "POST":
            refusal = access.refuse_command(headers)
        if refusal is None and path not in OPEN_TO_ALL and not path.startswith("/static/"):
            peer = scope["client"][0] if scope["client"] else "?"
            refusal = access.refuse_stranger(headers, peer)
        return refusal or self._refuse_flood(path)

    def _refuse_flood(self, path: str) -> Refusal | None:
        """Last, so that whoever is refused anyway takes nobody's place."""
        bucket = self._buckets.get(path)
        if bucket is None or bucket.take(time.monotonic_ns()):
            return None
        self._metrics.add("requests_limited")
        return Refusal(429, f"{path}: at most {bucket.per_s} requests a second: try again")


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
        self._sampler, self._commands, self._access = sampler, commands, access
        self._traces = Traces(sampler.settings)
        self._static = load_static()
        routes = [
            Route("/", self._page),
            Route("/login", self._login_page, methods=["GET"]),
            Route("/login", self._login, methods=["POST"]),
            Route("/logout", self._logout, methods=["POST"]),
            Route("/static/{name:path}", self._file),
            Route("/events", self._events),
            Route("/trace", self._trace),
            Route("/commands/transport", self._transport, methods=["POST"]),
            Route("/commands/fault", self._fault, methods=["POST"]),
            Route(METRICS, self._metrics),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
        ]
        self.app = Guard(Starlette(routes=routes), access, metrics)

    async def _page(self, _request: Request) -> Response:
        return self._answer_file("index.html")

    async def _login_page(self, _request: Request) -> Response:
        return self._answer_file("login/login.html")

    async def _file(self, request: Request) -> Response:
        return self._answer_file(request.path_params["name"])

    def _answer_file(self, name: str) -> Response:
        file = self._static.get(name)
        if file is None:
            return JSONResponse({"ok": False, "msg": "no such file"}, 404)
        headers = {"cache-control": "no-cache", "content-type": file.type}
        return Response(file.body, headers=headers)

    async def _login(self, request: Request) -> Response:
        try:
            body = await read_body(request)
            token = msgspec.json.decode(body, type=dict[str, str])["token"].strip()
        except (CommandRefused, msgspec.MsgspecError, KeyError):
            return JSONResponse({"ok": False, "msg": "token: missing"}, 400)
        if not self._access.needs_token:
            return JSONResponse({"ok": True})
        peer = request.client.host if request.client else "?"
        refusal = self._access.check_token(token, peer)
        if refusal is not None:
            self._access.log_refusal(peer, refusal)
            return JSONResponse({"ok": False, "msg": refusal.reason}, refusal.status)
        answer = JSONResponse({"ok": True})
        answer.set_cookie(
            COOKIE,
            self._access.open_session(token),
            max_age=int(SESSION_S),
            httponly=True,
            secure=request.url.scheme == "https",
            samesite="strict",
        )
        return answer

    async def _logout(self, request: Request) -> Response:
        self._access.close_session(request.headers.get("cookie", ""))
        answer = JSONResponse({"ok": True})
        answer.delete_cookie(COOKIE)
        return answer

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
