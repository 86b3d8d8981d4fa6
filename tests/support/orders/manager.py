"""The order service on a real store, without sockets."""

import json
from pathlib import Path
from typing import Any

from app.config.settings import Settings
from app.execution.prices import NoPrices
from app.model.wire.order_json import decode_any
from app.order_manager.service import OrderService, build_service
from app.order_manager.store.store import OrderStore
from tests.support.orders.frames import ORDER


class Manager:
    """The service on a store; each call of :meth:`ask` is one batch."""

    def __init__(self, path: Path | str, run_id: str = "", **settings: Any) -> None:
        chosen = Settings(**settings)
        self.store = OrderStore.open(str(path), run_id=run_id, qty_decimals=chosen.qty_decimals)
        self.service: OrderService = build_service(  # type: ignore[assignment]
            chosen, self.store, NoPrices()
        )
        self._scale = self.service.core.scale

    def ask(self, *requests: dict[str, Any]) -> list[dict[str, Any]]:
        """Process the requests as one batch; returns their answers."""
        self.service.begin()
        for request in requests:
            self.service.handle(0, decode_any(json.dumps(request).encode(), self._scale))
        answers = self.service.finish()
        self.service.counts.clear()
        self.store.end_batch()
        return [json.loads(answer[:-1]) for _, answer in answers]

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def crash(self) -> None:
        """Close as a killed process does: positions stay as they were last written."""
        self.store.checkpointer.unwritten.clear()
        self.store.close()


def some_orders(path: Path) -> None:
    """A store with 20 filled orders of two clients, one rejected and one resting order."""
    manager = Manager(path, "run1", paper_fill_percent=100)
    for n in range(20):
        manager.ask({**ORDER, "id": n, "client": f"c{n % 2}", "side": ("BUY", "SELL")[n % 3 == 0]})
    manager.ask({**ORDER, "client": "c0", "qty": 10**12}, {**ORDER, "type": "LIMIT", "ts": "a,*"})
    manager.close()
