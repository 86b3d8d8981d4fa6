"""Reading a client's orders from the order manager: each once, in their sequence, as they come."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.backtest.proof.order_line import OrderLine
from app.backtest.proof.order_pages import (
    WINDOW,
    OrderPages,
    OrderPort,
    OtherRun,
    Unavailable,
)
from app.config.settings import Settings
from tests.support.orders.frames import ORDER
from tests.support.orders.manager import Manager


class DirectPort(OrderPort):
    """Asks an order manager in this process."""

    def __init__(self, manager: Manager) -> None:
        super().__init__(Settings())
        self.manager = manager
        self.asked = 0

    def _ask(self, client: str | None, before: int, limit: int) -> bytes:
        self.asked += 1
        request: dict[str, Any] = {"op": "orders", "open": False, "before": before, "limit": limit}
        (answer,) = self.manager.ask(request if client is None else {**request, "client": client})
        return json.dumps(answer).encode()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "orders.sqlite3", "run-2")
    yield made
    made.close()


def send(manager: Manager, client: str, ids: range | list[int]) -> None:
    """Orders, 100 in a batch."""
    orders = [{**ORDER, "id": each, "client": client} for each in ids]
    for start in range(0, len(orders), 100):
        assert all(answer["ok"] for answer in manager.ask(*orders[start : start + 100]))


def read_all(pages: OrderPages) -> list[OrderLine]:
    """Until there are no more."""
    found = []
    for _ in range(1000):
        found += pages.read()
        if pages.caught_up:
            return found
    raise AssertionError("no end")


def test_before_the_first_order_there_is_none(manager: Manager) -> None:
    port = DirectPort(manager)
    pages = OrderPages(port, "strategy@1")
    assert pages.read() == []
    assert (pages.caught_up, pages.problem, port.run) == (True, "", "run-2")


@pytest.mark.parametrize("count", [1, 2, WINDOW, WINDOW + 1, 501, 1000])
def test_each_order_once_among_those_of_others(manager: Manager, count: int) -> None:
    """Also when there are many, for which the order manager looks through its store in parts."""
    send(manager, "other", range(700))
    ids = list(range(1, 3 * count, 3))
    for begin in range(0, count, 90):
        send(manager, "strategy@1", ids[begin : begin + 90])
        send(manager, "other", range(1000 + 50 * begin, 1040 + 50 * begin))
    pages = OrderPages(DirectPort(manager), "strategy@1")
    assert [line.id for line in read_all(pages)] == ids
    assert pages.read() == []


def test_new_orders_follow(manager: Manager) -> None:
    port = DirectPort(manager)
    pages = OrderPages(port, "strategy@1")
    numbers = itertools.count(1)
    for count in (0, 1, 0, 7, 300, 0, 1):
        ids = [next(numbers) for _ in range(count)]
        send(manager, "strategy@1", ids)
        send(manager, "other", [10_000 + each for each in ids])
        assert [line.id for line in read_all(pages)] == ids
    port.asked = 0
    pages.read()
    assert port.asked == 1  # a quiet second costs one request


def test_windows_without_orders_grow(manager: Manager) -> None:
    send(manager, "strategy@1", [1])
    send(manager, "other", range(3000))
    send(manager, "strategy@1", [2])
    port = DirectPort(manager)
    assert [line.id for line in read_all(OrderPages(port, "strategy@1"))] == [1, 2]
    assert port.asked < 60


def test_a_refused_order_has_its_code(tmp_path: Path) -> None:
    manager = Manager(tmp_path / "orders.sqlite3", risk_client_qty_max=5)
    manager.ask({**ORDER, "id": 1, "client": "strategy@1"})
    (line,) = OrderPages(DirectPort(manager), "strategy@1").read()
    assert (line.status, line.code, line.filled_qty, line.avg_price) == (
        "Denied", "QTY_MAX", "0", "null",
    )  # fmt: skip
    manager.close()


def test_another_run_is_noticed(manager: Manager, tmp_path: Path) -> None:
    port = DirectPort(manager)
    pages = OrderPages(port, "strategy@1")
    send(manager, "strategy@1", [1])
    read_all(pages)
    port.manager = Manager(tmp_path / "other.sqlite3", "run-3")
    with pytest.raises(OtherRun):
        pages.read()
    assert port.run == "run-3"
    port.manager.close()


@pytest.mark.parametrize("count", [0, 2, 3, 10])
def test_a_store_that_lost_its_orders_is_noticed(
    manager: Manager, tmp_path: Path, count: int
) -> None:
    """However many it has again."""
    port = DirectPort(manager)
    pages = OrderPages(port, "strategy@1")
    send(manager, "strategy@1", [1, 2, 3])
    read_all(pages)
    port.manager = Manager(tmp_path / "other.sqlite3", "run-2")
    send(port.manager, "strategy@1", list(range(11, 11 + count)))
    with pytest.raises(OtherRun):
        pages.read()
    port.manager.close()


@pytest.mark.parametrize("answer", [b"nonsense", b'{"ok":"yes"}', b"[]", b"\xff"])
def test_what_is_no_answer_is_none(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    """It ended the proof with the exit code of a difference."""
    port = OrderPort(Settings())
    monkeypatch.setattr(port, "_ask", lambda *_: answer)
    with pytest.raises(Unavailable, match="not an answer"):
        OrderPages(port, "strategy@1").read()
