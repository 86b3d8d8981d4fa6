"""A browser shows an operator's token once, and gets a cookie for it."""

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.dashboard.serving.access import COOKIE, SESSION_S, Access


class Login:
    """The addresses ``/login`` (what is sent; the page has its own) and ``/logout``."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self.routes = [
            Route("/login", self._login, methods=["POST"]),
            Route("/logout", self._logout, methods=["POST"]),
        ]

    async def _login(self, request: Request) -> Response:
        try:
            body = await request.body()  # its length has been checked
            token = msgspec.json.decode(body, type=dict[str, str])["token"].strip()
        except (ClientDisconnect, UnicodeDecodeError, msgspec.MsgspecError, KeyError):
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
