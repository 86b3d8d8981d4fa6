"""An order store that grows by random orders, and what of it must be on the bus."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from app.config.settings import Settings
from app.model.money import UNITS
from app.model.orders import (
    BUY,
    GTC,
    IOC,
    LIMIT,
    MARKET,
    PLAIN,
    SELL,
    SIDE_NAMES,
    STATUS_NAMES,
)
from app.model.requests import OrderRequest, Reject
from app.order_manager.service import build_service
from app.order_manager.store.store import OrderStore
from tests.support.orders.prices import Prices

SYMBOLS = ("AAPL", "MSFT", "GOOG")
CLIENTS = ("ann", "bob")


class History:
    """Writes a store as the order manager does, in batches; orders rest and fill in parts."""

    def __init__(self, path: Path, seed: int = 0, run_id: str = "run1") -> None:
        self.path, self.rng = path, random.Random(seed)
        self.store = OrderStore.open(str(path), "NORMAL", run_id)
        self._prices = Prices(**dict.fromkeys(SYMBOLS, 100.0))
        settings = Settings(paper_fill_percent=30, paper_fee_bps=1.0, paper_slippage_bps=0.5)
        self.service: Any = build_service(settings, self.store, self._prices)
        self._ids = dict.fromkeys(CLIENTS, 0)
        for client in CLIENTS:
            if client in self.service.core.clients:
                self._ids[client] = self.service.core.clients[client].id_high

    def grow(self, batches: int = 1, clock: Callable[[], int] = time.time_ns) -> None:
        """Commit some batches, all of each at one time."""
        for _ in range(batches):
            now_ns = clock()
            for _ in range(self.rng.randint(1, 6)):
                self._act(now_ns)
            self.store.commit()
            self.service.core.committed()
            self.store.end_batch()

    def _act(self, now_ns: int) -> None:
        rng, core = self.rng, self.service.core
        what = rng.random()
        if what < 0.15:
            symbol = rng.choice(SYMBOLS)
            price = round(rng.uniform(98, 102), 2)
            self._prices.book[symbol] = Prices(x=price).book["x"]
            core.poll(now_ns)
        elif what < 0.25 and core.open:
            order = core.open[rng.choice(list(core.open))]
            core.cancel(core.name_of(order), order.id, now_ns)
        elif what < 0.3:
            # Denied: too large.
            self._submit(now_ns, qty=10**11, price=100 * UNITS)
        else:
            kind = rng.choice((PLAIN, MARKET, LIMIT, LIMIT))
            price = None if kind == MARKET else round(rng.uniform(97, 103), 2)
            self._submit(
                now_ns,
                type=kind,
                tif=GTC if kind == LIMIT and rng.random() < 0.7 else IOC,
                price=None if price is None else round(price * UNITS),
            )

    def _submit(self, now_ns: int, **more: Any) -> None:
        client = self.rng.choice(CLIENTS)
        self._ids[client] += 1
        fields: dict[str, Any] = {
            "side": self.rng.choice((BUY, SELL)),
            "symbol": self.rng.choice(SYMBOLS),
            "qty": self.rng.randint(1, 50),
            "price": None,
            "ts": None,
            "id": self._ids[client],
            "client": client,
            "type": PLAIN,
            "tif": IOC,
        }
        found = self.service.core.submit(OrderRequest(**{**fields, **more}), now_ns)
        assert not isinstance(found, Reject), found

    def close(self) -> None:
        """Close the store."""
        self.store.close()


def expected(path: Path | str) -> dict[str, list[tuple[Any, ...]]]:
    """Kind -> what must be on the bus, each once, in this order; read without the code under test.

    Orders: run, number, client, id, side, symbol, quantity, status, filled quantity and notional.
    Fills: run, number, order, quantity, price, fee.  Changes: run, number, order, status, filled.
    """
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        with connection:
            orders = connection.execute(
                "SELECT run_id, order_no, name, id, side, symbol, qty, status, filled_qty, "
                "filled_notional FROM orders JOIN clients USING(client_no) ORDER BY order_no"
            ).fetchall()
            fills = connection.execute(
                "SELECT run_id, fill_no, f.order_no, f.qty, f.price, f.fee FROM fills f "
                "JOIN orders o USING(order_no) JOIN clients USING(client_no) ORDER BY fill_no"
            ).fetchall()
            changes = connection.execute(
                "SELECT run_id, change_no, h.order_no, h.status, h.filled_qty FROM order_changes h "
                "JOIN orders o USING(order_no) JOIN clients USING(client_no) ORDER BY change_no"
            ).fetchall()
    finally:
        connection.close()
    return {
        "orders": [
            (*head, SIDE_NAMES[side], symbol, qty, STATUS_NAMES[status], filled, str(notional))
            for *head, side, symbol, qty, status, filled, notional in orders
        ],
        "fills": [(*head, str(price), str(fee)) for *head, price, fee in fills],
        "changes": [(*head, STATUS_NAMES[status], filled) for *head, status, filled in changes],
    }


def published(messages: list[dict[str, Any]]) -> dict[str, list[tuple[Any, ...]]]:
    """The same of what was published, in its order; fails if anything precedes its order."""
    found: dict[str, list[tuple[Any, ...]]] = {"orders": [], "fills": [], "changes": []}
    seen = set()
    for m in messages:
        if m.get("event") == "ack":
            seen.add(m["order_no"])
            head = m["run"], m["order_no"], m["client"], m["id"], m["side"], m["symbol"], m["qty"]
            found["orders"].append((*head, m["status"], m["filled_qty"], m["filled_notional"]))
            continue
        assert m["order_no"] in seen, f"before its order: {m}"
        if "fill_no" in m:
            head = m["run"], m["fill_no"], m["order_no"], m["qty"]
            found["fills"].append((*head, m["price"], m["fee"]))
        else:
            head = m["run"], m["change_no"], m["order_no"]
            found["changes"].append((*head, m["status"], m["filled_qty"]))
    return found
