"""Requests and answers over live sockets: orders, queries, modes, counters."""

import gc
import json
import os
import threading
import time
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.config.settings import Settings
from app.execution.prices import BookPrice
from app.model.money import UNITS
from app.order_manager.server import MESSAGE_DELIMITER, OrderManagerServer
from app.order_manager.service import build_service
from app.shared_memory_utils.price_book import SharedPriceBook
from tests.support.children import eventually, segment_name
from tests.support.orders.frames import ORDER, frame
from tests.support.orders.manager import Manager
from tests.support.orders.prices import PROOF, Prices
from tests.support.orders.process import Client
from tests.support.orders.server import RunningServer, running


def test_delimiter() -> None:
    assert MESSAGE_DELIMITER == b"*"


def test_plain_order_is_acknowledged(server: RunningServer) -> None:
    with server.client() as client:
        answer = client.ask(ORDER)
    assert answer["ok"] is True
    order = answer["order"]
    assert {key: order[key] for key in ORDER} == ORDER
    assert (order["status"], order["filled_qty"], order["avg_price"]) == ("Filled", 10, 173.2)
    assert isinstance(order["id"], int)


def test_optional_members_come_back(server: RunningServer) -> None:
    asked = {**ORDER, "ts": "2025-10-01 09:30:00", "id": 12, "client": "desk"}
    with server.client() as client:
        order = client.ask(asked)["order"]
    assert {key: order[key] for key in asked} == asked


def test_server_without_settings_keeps_orders_in_memory() -> None:
    server = OrderManagerServer("127.0.0.1", 0)
    thread = threading.Thread(target=server.start, daemon=True)
    thread.start()
    try:
        with Client(server.port) as client:
            assert client.ask({**ORDER, "id": 1})["ok"] is True
    finally:
        server.stop()
        thread.join(5)
    assert not thread.is_alive()


def test_stop_before_and_twice(tmp_path: Path) -> None:
    server = OrderManagerServer("127.0.0.1", 0)
    server.stop()
    server.start()
    server.stop()


@pytest.fixture
def book_name() -> Iterator[str]:
    yield from segment_name()


@pytest.mark.parametrize(
    "step", ["RoomWatch", "build_service", "listen", "os.eventfd", "Admission"]
)
def test_a_server_that_cannot_be_made_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, book_name: str, step: str
) -> None:
    def mapped() -> bool:
        return book_name in Path("/proc/self/maps").read_text()

    def build_after_reading_a_price(chosen: Any, store: Any, prices: Any) -> Any:
        assert prices.read("A") is None
        assert mapped()
        return build_service(chosen, store, prices)

    def fail(*_arguments: object) -> None:
        raise MemoryError(step)

    SharedPriceBook(["A"], book_name).close()  # the segment stays
    chosen = Settings(output_dir=str(tmp_path), shm_price_book=book_name)
    monkeypatch.setattr("app.order_manager.server.build_service", build_after_reading_a_price)
    gc.collect()  # what other tests have left
    before = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patch:
        patch.setattr(f"app.order_manager.server.{step}", fail)
        with pytest.raises(MemoryError, match=step):
            OrderManagerServer("127.0.0.1", 0, settings=chosen)
    assert os.listdir("/proc/self/fd") == before
    assert not mapped()


def test_server_ids_are_unique_and_rise_across_clients(server: RunningServer) -> None:
    ids = []
    with server.client() as one, server.client() as two:
        for n in range(5):
            ids.append(one.ask({**ORDER, "client": "one"})["order"]["id"])
            ids.append(two.ask({**ORDER, "client": "two"})["order"]["id"])
            ids.append(two.ask({**ORDER, "client": "three", "id": 1000 * n})["order"]["order_no"])
    assert ids == sorted(set(ids))


def test_assigned_id_avoids_one_that_the_client_chose(server: RunningServer) -> None:
    with server.client() as client:
        chosen = client.ask({**ORDER, "id": 2})["order"]
        assigned = [client.ask({**ORDER, "qty": 1})["order"]["id"] for _ in range(3)]
    assert chosen["id"] == 2
    assert len({2, *assigned}) == 4


def test_repeated_order_gets_the_same_answer(server: RunningServer) -> None:
    with server.client() as client:
        first = client.ask({**ORDER, "id": 9, "client": "desk"})
        again = client.ask({**ORDER, "id": 9, "client": "desk"})
        other = client.ask({**ORDER, "id": 9, "client": "desk", "qty": 11})
    assert again == {**first, "duplicate": True}
    assert (other["ok"], other["code"], other["retryable"]) == (False, "DUPLICATE_ID", False)
    assert server.count("orders_duplicate") == 1
    assert server.count("fills") == 1


def test_a_reject_of_a_limit_is_final(server: RunningServer) -> None:
    with server.client() as client:
        first = client.ask({**ORDER, "id": 9, "qty": 10**12})
        again = client.ask({**ORDER, "id": 9, "qty": 10**12})
    assert (first["ok"], first["code"], first["retryable"]) == (False, "QTY_MAX", False)
    assert "1000000000000" in first["msg"]
    assert again == {**first, "duplicate": True}


def test_counts(server: RunningServer) -> None:
    with server.client() as client:
        client.send(frame(id=1) + frame(id=2) + frame(id=2) + frame(qty=0) + b"junk*")
        for _ in range(5):
            client.read()
        names = "received", "acked", "rejected", "duplicate"
        assert [server.count(f"orders_{name}") for name in names] == [4, 2, 1, 1]
        assert server.count("frames_bad") == 1
        assert server.count("commits") >= 1


def test_fills_of_resting_orders_are_counted(tmp_path: Path) -> None:
    """They come of a book update, in a batch without any request."""
    prices = Prices()
    with running(tmp_path, risk_known_symbols=False) as server, server.client() as client:
        server.server._service.core._venue._prices = prices  # type: ignore[attr-defined]
        client.ask({**ORDER, "id": 1, "type": "LIMIT", "tif": "GTC"})
        assert server.count("fills") == 0
        prices.book[ORDER["symbol"]] = BookPrice(UNITS, 0, 1)
        eventually(lambda: server.count("fills") == 1, "the fill is counted")


def test_resting_order_is_listed_and_canceled(server: RunningServer) -> None:
    with server.client() as client:
        placed = client.ask({**ORDER, "id": 3, "type": "LIMIT", "tif": "GTC"})
        assert placed["order"]["status"] == "New"
        assert [o["id"] for o in client.ask({"op": "orders"})["orders"]] == [3]
        canceled = client.ask({"op": "cancel", "id": 3})
        assert canceled["order"]["status"] == "Canceled"
        assert client.ask({"op": "cancel", "id": 3})["code"] == "NOT_OPEN"
        assert client.ask({"op": "status", "id": 3})["order"]["status"] == "Canceled"
        assert client.ask({"op": "orders"})["orders"] == []
        assert len(client.ask({"op": "orders", "open": False})["orders"]) == 1
        again = client.ask({**ORDER, "id": 3, "type": "LIMIT", "tif": "GTC"})
        assert again == {**placed, "duplicate": True}, "the original answer, not the current state"


def test_positions_and_profit(server: RunningServer) -> None:
    with server.client() as client:
        client.ask({**ORDER, "client": "ann"})
        client.ask({**ORDER, "client": "ann", "side": "SELL", "qty": 4, "price": 180.2})
        client.ask({**ORDER, "client": "bob", "side": "SELL", "qty": 1, "price": 200})
        answer = client.ask({"op": "positions"})
        only = client.ask({"op": "positions", "client": "bob"})
    ann, bob = answer["positions"]
    assert (ann["qty"], ann["avg_cost"], ann["realised"]) == (6, 173.2, 28.0)
    assert ann["unrealised"] == 42.0
    assert (bob["qty"], bob["avg_cost"], bob["realised"]) == (-1, 200.0, 0.0)
    assert answer["total"]["realised"] == 28.0
    assert answer["total"]["qty"] == {"AAPL": 5}
    assert [p["client"] for p in only["positions"]] == ["bob"]


@pytest.mark.parametrize("mode", ["replay", "live"])
def test_positions_are_shown_at_the_market(tmp_path: Path, mode: str) -> None:
    """The book's price, also of a book whose writer has ended; without one the last fill's."""
    prices = Prices()
    with running(tmp_path, trading_mode=mode, risk_known_symbols=False) as server:
        context = server.server._service.core.gate._context  # type: ignore[attr-defined]
        context.prices = prices
        with server.client() as client:
            client.ask({**ORDER, "client": "ann"})
            client.ask({**ORDER, "client": "bob", "side": "SELL", "qty": 4})

            def shown() -> list[Any]:
                answer = client.ask({"op": "positions"})
                rows = [(row["mark"], row["unrealised"]) for row in answer["positions"]]
                return [*rows, (answer["total"]["exposure"], answer["total"]["unrealised"])]

            at_fill = [(173.2, 0.0), (173.2, 0.0), (2424.8, 0.0)]
            at_book = [(180.0, 68.0), (180.0, -27.2), (14 * 180.0, 40.8)]
            assert shown() == at_fill, "no book"
            prices.book[ORDER["symbol"]] = BookPrice(180 * UNITS, 0, 1)
            assert shown() == at_book
            used = client.ask({"op": "limits", "client": "ann"})["used"]
            assert used["profit_today"] == 68.0
            prices.attached = False
            assert shown() == at_book, "the orderbook has ended"


def test_pages_of_positions(server: RunningServer) -> None:
    with server.client() as client:
        client.send(b"".join(frame(symbol=f"S{n}", client=f"c{n % 3}") for n in range(40)))
        for _ in range(40):
            client.read()
        seen, after, more = [], "", True
        while more:
            answer = client.ask({"op": "positions", "limit": 7, "after": after})
            seen += [(p["client"], p["symbol"]) for p in answer["positions"]]
            after, more = answer["after"], answer["more"]
    assert len(seen) == len(set(seen)) == 40


def test_longest_answers_fit_a_frame(server: RunningServer) -> None:
    long: dict[str, Any] = {"client": "*" * 64, "ts": "*" * 10}
    with server.client() as client:
        client.send(b"".join(frame(symbol=f"S{n}", **long) for n in range(200)))
        for _ in range(200):
            assert client.read()["ok"]
        for request in (
            {"op": "positions", "limit": 200},
            {"op": "orders", "open": False, "limit": 200},
        ):
            client.send(request)
            assert 40_000 < len(client.read_frame()) <= 65536


def test_halt_reduce_resume(server: RunningServer) -> None:
    with server.client() as client:
        client.ask({**ORDER, "client": "desk"})
        client.ask({**ORDER, "client": "desk", "id": 50, "type": "LIMIT", "price": 1})
        assert client.ask({"op": "reduce"})["mode"] == "reduce"
        assert client.ask({**ORDER, "client": "desk"})["code"] == "REDUCE_ONLY"
        assert client.ask({**ORDER, "client": "desk", "side": "SELL", "qty": 4})["ok"] is True
        assert client.ask({"op": "halt", "client": "desk"})["mode"] == "halted"
        refused = client.ask({**ORDER, "client": "desk", "id": 90})
        assert (refused["code"], refused["retryable"]) == ("HALTED", True)
        killed = client.ask({"op": "halt", "kill": True})
        assert (killed["mode"], killed["canceled"]) == ("killed", 1)
        assert client.ask({"op": "resume"})["mode"] == "active"
        assert client.ask({"op": "resume", "client": "desk"})["mode"] == "active"
        assert client.ask({**ORDER, "client": "desk", "id": 90})["ok"] is True, (
            "the same id is free"
        )


def test_a_known_symbol_needs_a_book_and_the_order_may_wait_for_it(
    tmp_path: Path, book_name: str
) -> None:
    with (
        running(tmp_path, venue="paper", shm_price_book=book_name) as server,
        server.client() as client,
    ):
        order = {**ORDER, "id": 1, "client": "ann"}
        refused = client.ask(order)
        assert (refused["code"], refused["retryable"]) == ("NO_BOOK", True)
        with SharedPriceBook([ORDER["symbol"]], name=book_name) as book:
            book.update(ORDER["symbol"], 173.0)
            deadline = time.monotonic() + 10
            while not (answer := client.ask(order))["ok"] and time.monotonic() < deadline:
                time.sleep(0.05)
            assert answer["order"]["avg_price"] == 173.0
            assert client.ask({**order, "id": 2, "symbol": "NONE"})["code"] == "UNKNOWN_SYMBOL"
            book.unlink()


def test_a_mode_that_is_not_to_loosen_a_stricter_one(server: RunningServer) -> None:
    with server.client() as client:

        def kept(mode: str, **request: Any) -> bool:
            answer = client.ask(request)
            assert (answer["ok"], answer["mode"]) == (True, mode)
            return bool(answer.get("kept"))

        client.ask({**ORDER, "client": "desk"})
        assert not kept("halted", op="halt", client="desk")
        assert not kept("reduce", op="reduce", unless="halted")
        assert not kept("halted", op="halt", unless="killed")
        assert kept("halted", op="reduce", unless="reduce")
        assert kept("halted", op="reduce", client="desk", unless="halted")
        assert not kept("active", op="resume", client="desk", unless="killed")
        assert not kept("killed", op="halt", kill=True)
        assert kept("killed", op="resume", unless="killed")
        unknown = client.ask({"op": "halt", "client": "nobody", "unless": "killed"})
        assert unknown["code"] == "UNKNOWN_CLIENT"


@pytest.mark.parametrize(
    ("asked", "account", "mode"),
    [
        ({"op": "halt", "kill": True, "reason": "fat finger"}, "the whole stack", "killed"),
        ({"op": "reduce", "client": "ann", "reason": "fat finger"}, "client ann", "reduce"),
    ],
)
def test_a_start_in_a_restricted_mode_says_why_and_how_to_resume(
    tmp_path: Path, asked: dict[str, Any], account: str, mode: str
) -> None:
    def warnings_of(run_id: str, *requests: dict[str, Any]) -> list[MutableMapping[str, Any]]:
        with capture_logs() as lines:
            manager = Manager(tmp_path / "orders.sqlite3", run_id)
        manager.ask(*requests)
        manager.close()
        return [line for line in lines if line["event"] == "orders_restricted"]

    assert warnings_of("monday", {**ORDER, "client": "ann"}, {**ORDER, "client": "bob"}) == []
    assert warnings_of("monday", asked) == []
    (line,) = warnings_of("monday")
    assert line["log_level"] == "warning"
    assert (line["account"], line["mode"], line["reason"]) == (account, mode, "fat finger")
    assert line["mend"].startswith("python -m app orders resume")
    assert bool(warnings_of("tuesday")) is ("client" not in asked), "the stack's mode stays"
    client = {key: name for key, name in asked.items() if key == "client"}
    warnings_of("monday", {"op": "resume", **client})
    assert warnings_of("monday") == []


@pytest.mark.parametrize("kind", ["plain", "MARKET"])
@pytest.mark.parametrize("venue", ["paper", "echo"])
def test_a_price_slipped_beyond_64_bits_is_refused_and_the_others_are_served(
    tmp_path: Path, kind: str, venue: str
) -> None:
    settings = {"venue": venue, "paper_slippage_bps": 300.0, "risk_known_symbols": False}
    with running(tmp_path, **settings) as server, server.client() as client:
        prices = Prices(AAPL=8.99e9, MSFT=10.0)
        core = server.server._service.core
        core.gate._context.prices = core._venue._prices = prices  # type: ignore[attr-defined]
        high: dict[str, Any] = {**ORDER, "price": 8.99e9}
        if kind == "MARKET":
            high = {"symbol": "AAPL", "side": "BUY", "qty": 10, "type": kind}
        elif venue == "paper":
            high["proof"] = PROOF
        low = {**ORDER, "symbol": "MSFT", "price": 10.5}
        client.send(b"".join(json.dumps(asked).encode() + b"*" for asked in (low, high, low)))
        answers = [client.read() for _ in range(3)]
        assert [answer["ok"] for answer in answers] == [True, False, True]
        assert answers[1]["code"] == "PRICE_TOO_HIGH"
        assert "PAPER_SLIPPAGE_BPS" in answers[1]["msg"]


def test_limits(tmp_path: Path) -> None:
    with (
        running(tmp_path, risk_client_qty_max=5, risk_stack_notional_max=1000.0) as server,
        server.client() as client,
    ):
        client.ask({**ORDER, "qty": 1, "client": "desk"})
        answer = client.ask({"op": "limits", "client": "desk"})
        assert answer["limits"]["qty_max"] == 5
        assert client.ask({"op": "limits"})["limits"]["notional_max"] == 1000.0
        denied = client.ask({**ORDER, "qty": 6})
    assert denied["code"] == "QTY_MAX"
    assert "6" in denied["msg"]
    assert "5" in denied["msg"]


def test_time_until_the_ack_is_sent_has_nothing_of_what_follows(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def slow(answers: list[tuple[object, bytes]]) -> int:
        if any(b'"order":' in answer for _, answer in answers):
            time.sleep(1.5)
            asked.set()
        return 0

    with server.client() as client:
        monkeypatch.setattr(server.server._refusals, "note", slow)
        client.send(frame(id=1) + b'{"op":"ping"}*')
        client.read()
        client.read()
        assert not asked.is_set(), "the answers wait for the log of refusals"
        assert asked.wait(10)
    metrics = server.metrics
    assert metrics is not None
    eventually(lambda: metrics.histogram("order_ack_ns").snapshot().total, "no time recorded")
    assert metrics.histogram("order_ack_ns").snapshot().percentile(100) < 1.5e9
