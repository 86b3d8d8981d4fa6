"""Orders, positions and limits, asked from the order manager over its port.

One thread asks, on one connection, so that an order manager that is dead or frozen delays no page.
It has the stack's identity, and asks questions only.
"""

import threading
import time
from collections import OrderedDict
from queue import SimpleQueue
from typing import Any, Final, NamedTuple

import msgspec

from app.config.settings import Settings, SettingsError
from app.model.requests import is_reserved
from app.model.wire.frames import json_frame
from app.runtime.net.access import connect_orders
from app.runtime.net.receive import read_until

POLL_S: Final = 0.5
IDLE_S: Final = 4.5
"""Longer while no page is open."""
REFRESH_POLLS: Final = 4
"""Every so many polls, the newest orders are asked for again: their states change."""
TIMEOUT_S: Final = 2.0
RETRY_S: Final = 1.0
ORDERS_MAX: Final = 300
REFUSED_MAX: Final = 100
"""Refused orders that are kept although they are older."""
PAGE: Final = 50
PAGES_MAX: Final = 4
POSITIONS_MAX: Final = 100

Row = dict[str, Any]


class Account(msgspec.Struct, frozen=True):
    """What the order manager said last.

    ``at_s``: CLOCK_MONOTONIC of the answer, 0 before the first.  ``problem``: why there is no
    newer one.
    """

    at_s: float = 0.0
    problem: str = "no answer yet"
    mode: str = ""
    total: Row = {}
    positions: list[Row] = []
    more_positions: bool = False
    limits: Row = {}
    used: Row = {}
    client: str = ""
    client_mode: str = ""
    client_limits: Row = {}
    client_used: Row = {}


class Changes(NamedTuple):
    """Orders that are new or have changed; ``reset``: forget those known before."""

    reset: bool
    rows: list[Row]


class Desk:
    """Asks the order manager twice a second, in its own thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.account = Account()
        self.changes: SimpleQueue[Changes] = SimpleQueue()
        self._orders: OrderedDict[int, Row] = OrderedDict()
        self.run_id = ""
        """Of the run whose orders these are; empty before the first answer."""
        self._stopped, self._watched = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="desk", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop it; does not wait for an answer."""
        self._stopped.set()
        self._watched.set()

    def is_watched(self, watched: bool) -> None:
        """While no page is open, it rarely asks."""
        self._watched.set() if watched else self._watched.clear()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._ask_until_lost()
            except (OSError, SettingsError, ValueError, KeyError, TypeError) as error:
                # msgspec's decoding errors are ValueErrors.
                text = " ".join(str(error).split()) or type(error).__name__
                self.account = msgspec.structs.replace(self.account, problem=text)
            self._stopped.wait(RETRY_S)

    def _ask_until_lost(self) -> None:
        with connect_orders(self._settings, TIMEOUT_S, as_stack=True) as connection:

            def ask(request: Row) -> Row:
                connection.sendall(json_frame(msgspec.json.encode(request)))
                answer = msgspec.json.decode(read_until(connection)[:-1], type=Row)
                if not answer.get("ok"):
                    raise ValueError(answer.get("msg") or "refused")
                return answer

            poll = 0
            while not self._stopped.is_set():
                self._poll(ask, poll)
                poll += 1
                self._stopped.wait(POLL_S)
                self._watched.wait(IDLE_S)

    def _poll(self, ask: Any, poll: int) -> None:
        positions = ask({"op": "positions", "limit": POSITIONS_MAX})
        limits = ask({"op": "limits"})
        clients = [row["client"] for row in positions["positions"]]
        own = next((c for c in clients if is_reserved(c, self._settings.strategy_client)), "")
        account = Account(
            time.monotonic(),
            "",
            limits["mode"],
            positions["total"],
            positions["positions"],
            positions["more"],
            limits["limits"],
            limits["used"],
        )
        if own:
            of_client = ask({"op": "limits", "client": own})
            account = msgspec.structs.replace(
                account,
                client=own,
                client_mode=of_client["mode"],
                client_limits=of_client["limits"],
                client_used=of_client["used"],
            )
        self.account = account
        self._take_orders(ask, begins=poll == 0, whole=poll % REFRESH_POLLS == 0)

    def _take_orders(self, ask: Any, *, begins: bool, whole: bool) -> None:
        """Ask for the newest orders, page by page until all are known, or ``whole``."""
        if begins:
            self._orders.clear()
        before, changed = None, list[Row]()
        for _ in range(PAGES_MAX):
            request = {"op": "orders", "open": False, "limit": PAGE}
            answer = ask(request if before is None else {**request, "before": before})
            if answer["run"] != self.run_id:  # the market has jumped back: another run
                self.run_id, begins = answer["run"], True
                self._orders.clear()
                changed.clear()
            new = [row for row in answer["orders"] if self._orders.get(row["order_no"]) != row]
            known = sum(row["order_no"] in self._orders for row in answer["orders"])
            changed += new
            if not answer["more"] or (known and not whole):
                break
            before = answer["before"]
        for row in sorted(changed, key=lambda each: int(each["order_no"])):
            self._orders[row["order_no"]] = row
        self._drop_old()
        if changed or begins:
            self.changes.put(Changes(begins, changed))

    def _drop_old(self) -> None:
        numbers = sorted(self._orders, reverse=True)
        refused = 0
        for number in numbers[ORDERS_MAX:]:
            refused += "code" in self._orders[number]
            if "code" not in self._orders[number] or refused > REFUSED_MAX:
                del self._orders[number]
