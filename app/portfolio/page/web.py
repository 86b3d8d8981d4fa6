"""The addresses of the portfolio's page."""

from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.dashboard.serving.access import Access
from app.dashboard.serving.guard import METRICS, Guard
from app.dashboard.serving.login import Login
from app.dashboard.serving.static_files import FileRoutes, load_shared, load_static
from app.portfolio.intake.following import Following
from app.portfolio.page.counts import Counts
from app.portfolio.page.figures import figures_text
from app.portfolio.page.view import state_view
from app.portfolio.service import Portfolio

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
STATE: Final = "/state"
PER_S_MAX: Final = {METRICS: 20, STATE: 50}
"""Requests a second to addresses whose answer costs milliseconds, of all clients together."""


class Web:
    """The application."""

    def __init__(
        self, portfolio: Portfolio, following: Following, access: Access, counts: Counts
    ) -> None:
        self._portfolio, self._following, self._counts = portfolio, following, counts
        self._access = access
        files = FileRoutes(
            load_shared() | load_static(Path(__file__).with_name("static")), "portfolio.html"
        )
        routes = [
            *files.routes,
            *Login(access).routes,
            Route(STATE, self._state),
            Route(METRICS, self._metrics),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
        ]
        self.app: Any = Guard(Starlette(routes=routes), access, counts, PER_S_MAX)

    async def _state(self, _request: Request) -> Response:
        state = state_view(self._portfolio, self._following)
        answer = JSONResponse(state | {"token": self._access.needs_token})
        answer.headers["cache-control"] = "no-store"
        return answer

    async def _metrics(self, _request: Request) -> Response:
        body = figures_text(self._portfolio, self._following, self._counts)
        return Response(body, media_type=CONTENT_TYPE)

    async def _healthz(self, _request: Request) -> Response:
        return JSONResponse({"ok": True})

    async def _readyz(self, _request: Request) -> Response:
        """Ready: the bus is there, and the books have what it had when they were opened."""
        problem = self._following.problem
        if not problem and not self._portfolio.judges:
            problem = "catching up with the streams"
        return JSONResponse({"ok": not problem, "msg": problem}, 503 if problem else 200)
