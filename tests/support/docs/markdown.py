"""The project's Markdown pages: their blocks, commands, links and what they name in backticks."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.paths import ROOT

FENCE = re.compile(r"^```(.*)$")
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
COMMENT = re.compile(r"\s+# .*$")


class Block(NamedTuple):
    """A fenced block: its page, the line it begins on, its language and text."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def where(self) -> str:
        """``README.md:42``, for names of tests and messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Of a ``bash`` block: one command per line; a ``bash script`` block is one command."""
        if self.language == "bash script":
            return [self.text]
        if self.language != "bash":
            return []
        lines = (COMMENT.sub("", line).strip() for line in self.text.splitlines())
        return [line for line in lines if line]


def pages() -> list[Path]:
    """Every Markdown file of the project, except what tools and runs have generated."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            name
            for name in folders
            if (not name.startswith(".") or name == ".github")
            and os.path.join(folder, name) not in (str(ROOT / "data/out"), str(ROOT / "build"))
        ]
        found += [Path(folder, name) for name in names if name.endswith(".md")]
    return sorted(found)


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    found: list[Block] = []
    opened: tuple[int, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = FENCE.match(line)
        if fence and opened is None:
            opened, lines = (number, fence[1].strip()), []
        elif fence and opened is not None:
            found.append(Block(page, *opened, "\n".join(lines)))
            opened = None
        else:
            lines.append(line)
    assert opened is None, f"{page}: a block that begins on line {opened} has no end"
    return found


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """Targets of the page's relative links."""
    return [to for to in LINK.findall(prose(page)) if not re.match(r"\w+:", to)]


def code_spans(page: Path) -> Iterator[str]:
    """The text in backticks, outside fenced blocks."""
    yield from CODE.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """The names under which a page's headings can be linked, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}
