"""The files of a page, and those that all pages share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

PAGE: Final = Path(__file__).parents[1] / "static"
"""The dashboard's."""
SHARED: Final = ("style.css", "theme.js", "dom.js", "icon.svg", "login/")
"""Of the dashboard's files, those that another page has, too: the frame, and the login."""


class File(NamedTuple):
    """A file of the page."""

    body: bytes
    type: str


def load_static(folder: Path) -> dict[str, File]:
    """Every file of the page, by name.  They are read once: no path of a request is ever opened."""
    return {
        path.relative_to(folder).as_posix(): File(path.read_bytes(), TYPES[path.suffix])
        for path in sorted(folder.rglob("*"))
        if path.suffix in TYPES
    }


def load_shared() -> dict[str, File]:
    """The files of :data:`SHARED`."""
    found = load_static(PAGE)
    return {name: file for name, file in found.items() if name.startswith(SHARED)}


class FileRoutes:
    """Answers with files that are in memory: a page, its login, and all by their names."""

    def __init__(self, files: Mapping[str, File], page: str) -> None:
        """``page``: the name of the file at ``/``."""
        self._files, self._name = files, page
        self.routes = [
            Route("/", self._page),
            Route("/login", self._login_page, methods=["GET"]),
            Route("/static/{name:path}", self._file),
        ]

    async def _page(self, _request: Request) -> Response:
        return self._answer(self._name)

    async def _login_page(self, _request: Request) -> Response:
        return self._answer("login/login.html")

    async def _file(self, request: Request) -> Response:
        return self._answer(request.path_params["name"])

    def _answer(self, name: str) -> Response:
        file = self._files.get(name)
        if file is None:
            return JSONResponse({"ok": False, "msg": "no such file"}, 404)
        headers = {"cache-control": "no-cache", "content-type": file.type}
        return Response(file.body, headers=headers)
