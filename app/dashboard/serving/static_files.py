"""The files of a page, and those that all pages share."""

from pathlib import Path
from typing import Final, NamedTuple

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
