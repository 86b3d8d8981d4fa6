"""The checks that every request passes first."""

import time
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from app.dashboard.serving.access import HEADERS, Access, Refusal
from app.dashboard.serving.server import Counts
from app.model.token_bucket import TokenBucket

METRICS: Final = "/metrics"
OPEN_TO_ALL: Final = frozenset({"/healthz", "/readyz", "/login"})
"""Needed before a token can be shown; they tell nothing about the run."""


class Guard:
    """ASGI middleware: refuses, counts and logs what is not allowed; adds the headers."""

    def __init__(
        self, app: Any, access: Access, metrics: Counts, per_s_max: Mapping[str, int]
    ) -> None:
        """``per_s_max``: requests a second to some addresses, of all clients together."""
        self._app, self._access, self._metrics = app, access, metrics
        self._buckets = {path: TokenBucket(per_s) for path, per_s in per_s_max.items()}

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
