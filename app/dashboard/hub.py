"""Snapshots for the open pages: each is made once, and sent to all of them as server-sent events.

A snapshot has the whole state, which is small, and what is new of the long lists: orders, profit,
and the points of the page's symbol.  A page that missed some, because it reconnects (it then sends
``Last-Event-ID``) or reads slowly, gets what it missed in one message; after more than
:data:`KEPT` snapshots it gets everything, as a new page does.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NamedTuple

import msgspec

from app.dashboard.sources.market import Point, columns

KEPT: Final = 50
"""Snapshots, at five a second: ten seconds."""
PAGES_MAX: Final = 100


class Snapshot(NamedTuple):
    """What one round of reading brought; ``state`` is a JSON object, encoded once.

    ``reset``: what the pages know of the lists is of another run, so they get everything.
    """

    number: int
    state: bytes
    orders: list[dict[str, Any]]
    profit: list[tuple[float, float, float]]
    series: dict[str, list[Point]]
    reset: bool


class Everything(NamedTuple):
    """What a page gets first."""

    static: dict[str, Any]
    latency: dict[str, Any] | None
    orders: list[dict[str, Any]]
    profit: list[tuple[float, float, float]]


Symbols = tuple[str, ...]
"""Of a stream, as they were asked for: at least one, which may be empty."""


class Hub:
    """Holds the last snapshots, and the pages that wait for the next."""

    def __init__(
        self,
        everything: Callable[[], Everything],
        points: Callable[[str], list[Point]],
        shown: Callable[[str], str],
    ) -> None:
        """``points``: all of a symbol's.

        ``shown``: the symbol that a page gets that asks for another one, or for none.
        """
        self._everything, self._points, self._shown = everything, points, shown
        self._boot = secrets.token_hex(4)
        self._kept: deque[Snapshot] = deque(maxlen=KEPT)
        self._messages: dict[tuple[int | None, Symbols], bytes] = {}
        """Of the latest snapshot: by what the page has, and its symbols."""
        self._next = asyncio.Event()
        self.pages = 0
        self.ended = False

    def publish(self, snapshot: Snapshot) -> None:
        """Send a snapshot to every page."""
        self._kept.append(snapshot)
        self._messages.clear()
        self._wake()

    def end(self) -> None:
        """End every stream."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        woken, self._next = self._next, asyncio.Event()
        woken.set()

    @property
    def number(self) -> int:
        """That of the latest snapshot."""
        return self._kept[-1].number if self._kept else 0

    def known(self, last_event_id: str) -> int | None:
        """The snapshot that a page has; None if it has none of this process."""
        boot, _, number = last_event_id.partition("-")
        if boot != self._boot or not number.isascii() or not number.isdigit() or len(number) > 15:
            return None
        return int(number)

    async def messages(self, symbols: Symbols, last_event_id: str) -> AsyncIterator[bytes]:
        """The stream of one page, or of several with a symbol each, until the hub ends.

        A page that is slow to take a message finds in its next one all that it has missed.
        """
        has = self.known(last_event_id)
        while not self.ended:
            waiting = self._next
            if self._kept and has != self.number:
                message = self._message(has, symbols)
                has = self.number
                yield message
            else:
                await waiting.wait()

    def _message(self, has: int | None, symbols: Symbols) -> bytes:
        made = self._messages.get((has, symbols))
        if made is None:
            made = self._messages[has, symbols] = self._make(has, symbols)
        return made

    def _make(self, has: int | None, symbols: Symbols) -> bytes:
        latest = self._kept[-1]
        missed = [each for each in self._kept if has is None or each.number > has]
        whole = has is None or has > latest.number or self._kept[0].number > has + 1
        whole = whole or any(each.reset for each in missed)
        body: dict[str, Any] = {"state": msgspec.Raw(latest.state)}
        first, *others = symbols
        if whole:
            all_of = self._everything()
            body |= {
                "reset": True,
                "static": all_of.static,
                "latency": all_of.latency,
                "orders": all_of.orders,
                "profit": all_of.profit,
            }
        else:
            body["orders"] = [row for each in missed for row in each.orders]
            body["profit"] = [row for each in missed for row in each.profit]
        body |= self._series(first, missed, whole=whole)
        if others:
            body["others"] = {each: self._series(each, missed, whole=whole) for each in others}
        data = msgspec.json.encode(body)
        return b"id: %s-%d\ndata: %s\n\n" % (self._boot.encode(), latest.number, data)

    def _series(self, asked: str, missed: list[Snapshot], *, whole: bool) -> dict[str, Any]:
        """The points of a symbol: all of them, with its name, or the new ones."""
        symbol = self._shown(asked)
        if whole:
            return {"series": columns(self._points(symbol)), "symbol": symbol}
        return {"series": columns([p for each in missed for p in each.series.get(symbol, [])])}
