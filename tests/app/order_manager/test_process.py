"""The order manager process: its log, its shutdown, a port in use."""

import re
from pathlib import Path

from tests.support.orders.frames import ORDER, frame
from tests.support.orders.process import OrderManagerProcess


def test_log_line_of_an_order(tmp_path: Path) -> None:
    with OrderManagerProcess(tmp_path) as manager, manager.client() as client:
        client.ask({**ORDER, "id": 12})
        client.ask({**ORDER, "id": 13, "side": "SELL", "price": 0.00001234})
        assert manager.stop() == 0
    log = manager.log()
    assert "Received Order 12: BUY 10 AAPL @ 173.20 " in log
    assert "Received Order 13: SELL 10 AAPL @ 0.00001234 " in log
    head = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z INFO order_manager Received Order 12"
    assert re.search(head, log, re.MULTILINE)


def test_sigterm_answers_received_requests_and_exits_0(tmp_path: Path) -> None:
    with OrderManagerProcess(tmp_path) as manager, manager.client() as client:
        client.ask(ORDER)
        # More than one read of the socket takes.
        client.send(b"".join(frame(id=n, client="last") for n in range(3000)))
        assert manager.stop() == 0
        assert [client.read()["order"]["id"] for _ in range(3000)] == list(range(3000))


def test_port_in_use_is_reported(tmp_path: Path) -> None:
    with OrderManagerProcess(tmp_path / "one") as manager:
        other = OrderManagerProcess(tmp_path / "two", order_port=manager.port)
        other.start(wait=False)
        assert other.process is not None
        assert other.process.wait(timeout=20) == 1
        assert f"127.0.0.1:{manager.port}" in other.log()
        other.__exit__(None, None, None)
