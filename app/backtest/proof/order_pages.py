"""Asks the order manager for a client's orders, each once, in the sequence of their numbers.

Pages of the order port are newest first and end at a number.  So a window of numbers is asked for,
oldest window first: what is held is one window, however many orders a run has.
"""

import socket
from typing import Final

import msgspec

from app.backtest.proof.order_line import OrderLine, Row, of_row
from app.config.settings import Settings, SettingsError
from app.model.requests import MAX_ORDER_ID, PAGE_ROWS_MAX
from app.model.wire.frames import json_frame
from app.runtime.net.access import connect_orders
from app.runtime.net.receive import read_until

TIMEOUT_S: Final = 2.0
WINDOW: Final = 150
"""Numbers asked for at once: about as many orders as fit into a frame."""
WINDOW_MAX: Final = 9_600
"""While windows are empty: few of the store's orders are of this client."""


class Page(msgspec.Struct):
    """The answer to the request ``orders``."""

    ok: bool
    orders: list[Row] = []
    run: str | None = None
    more: bool = False
    before: int = 0
    code: str = ""
    msg: str = ""


class Unavailable(Exception):
    """No answer from the order manager now."""


class OtherRun(Exception):
    """Another run, or a store without the orders that were read before: read all again."""


_page: Final = msgspec.json.Decoder(Page)


class OrderPort:
    """A connection to the order manager with the rights of the stack; made again when it breaks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: socket.socket | None = None
        self.run: str | None = None
        """The run of the latest answer; None before the first."""

    def page(self, client: str | None, before: int, limit: int) -> Page:
        """Orders numbered below ``before``, newest first.

        Raises:
            Unavailable: no answer.
            OtherRun: the order manager has begun another run since the answer before.
        """
        try:
            page = _page.decode(self._ask(client, before, limit))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self.close()
            raise Unavailable(f"not an answer of an order manager: {error}") from None
        known = self.run
        if page.run is not None:
            self.run = page.run
        if known is not None and known != self.run:
            raise OtherRun
        return page

    def clients(self) -> set[str]:
        """The clients of the latest orders."""
        return {row.client for row in self.page(None, MAX_ORDER_ID, PAGE_ROWS_MAX).orders}

    def _ask(self, client: str | None, before: int, limit: int) -> bytes:
        request = {"op": "orders", "open": False, "before": before, "limit": limit}
        if client is not None:
            request["client"] = client
        try:
            if self._connection is None:
                self._connection = connect_orders(self._settings, TIMEOUT_S, as_stack=True)
            self._connection.sendall(json_frame(msgspec.json.encode(request)))
            frame = read_until(self._connection)[:-1]
            if b'"retryable":true' in frame[:300]:
                raise ConnectionAbortedError(frame[:200].decode("utf-8", "replace"))
            return frame
        except (OSError, SettingsError) as error:
            self.close()
            raise Unavailable(str(error)) from None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class OrderPages:
    """The orders of one client, from its first on."""

    def __init__(self, port: OrderPort, client: str) -> None:
        self._port, self.client = port, client
        self.problem = ""
        """Why the client's orders cannot be seen; empty if they can, or if it has none yet."""
        self.caught_up = False
        """Whether all orders that were stored before the latest call have been read."""
        self._last: Row | None = None
        """The latest that was read; it is asked for again, to notice a replaced store."""
        self._next_no = 0
        self._window = WINDOW

    def read(self) -> list[OrderLine]:
        """The next orders, at most a window of them.

        Raises:
            Unavailable: no answer; ask again later.
            OtherRun: read them all again.
        """
        newest = self._newest()
        self.caught_up = True
        if newest is None:
            if self._last is not None:
                raise OtherRun
            return []
        if self._last is None and not self._next_no:
            self._next_no = self._first_no(newest)
        last = self._last
        if newest.order_no < self._next_no - 1:
            raise OtherRun
        if last is not None and last.order_no == newest.order_no:
            if last.id != newest.id:
                raise OtherRun
            return []
        end = min(self._next_no + self._window, newest.order_no + 1)
        rows = self._between(self._next_no if last is None else last.order_no, end)
        if last is not None:
            if not rows or (rows[0].order_no, rows[0].id) != (last.order_no, last.id):
                raise OtherRun
            rows = rows[1:]
        self._next_no, self.caught_up = end, end > newest.order_no
        if rows:
            self._last, self._window = rows[-1], WINDOW
        else:
            self._window = min(2 * self._window, WINDOW_MAX)
        return [of_row(row) for row in rows]

    def _ask(self, before: int, limit: int) -> Page:
        page = self._port.page(self.client, before, limit)
        is_fine = page.ok or page.code == "UNKNOWN_CLIENT"
        self.problem = "" if is_fine else f"{page.code}: {page.msg}"
        return page

    def _newest(self, below: int = MAX_ORDER_ID) -> Row | None:
        """The newest order numbered below ``below``."""
        while True:
            page = self._ask(below, 1)
            if page.orders:
                return page.orders[0]
            if not page.more:
                return None
            below = page.before

    def _first_no(self, newest: Row) -> int:
        """The number of the client's first order, found by halving."""
        low, high = 0, newest.order_no  # none below low, one at high or below
        while low < high:
            middle = (low + high) // 2
            found = self._newest(middle + 1)
            if found is None:
                low = middle + 1
            else:
                high = found.order_no
        return low

    def _between(self, begin: int, end: int) -> list[Row]:
        """The orders numbered ``begin`` to ``end - 1``, oldest first."""
        rows: list[Row] = []
        while begin < end:
            page = self._ask(end, min(end - begin, PAGE_ROWS_MAX))
            rows.extend(row for row in page.orders if row.order_no >= begin)
            if not page.more or page.before <= begin:
                break
            end = page.before
        rows.reverse()
        return rows
