"""The order client against order managers that reset, stall, lie and send garbage."""

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from app.config.settings import Settings, SettingsError
from app.model.wire.order_json import encode_order
from app.runtime.lifecycle import Backoff, Stop
from app.runtime.net.order_client import EncodedOrder, OrderClient, StopRequested, send_order
from tests.support.children import eventually
from tests.support.fake_servers import Connection, FakeServer, unused_port


def orders(count: int, first: int = 1) -> list[EncodedOrder]:
    return [
        EncodedOrder(i, encode_order(i, "me", "BUY", "A", 10, 1.5, 1_759_311_000 * 10**9))
        for i in range(first, first + count)
    ]


class OrderServer:
    """Answers by id; a repeated id is a duplicate.  Connection number n gets fault number n."""

    def __init__(self, *faults: Callable[[Connection, "OrderServer"], None]) -> None:
        self.executed: list[int] = []
        self.asked: list[int] = []
        self.server = FakeServer(
            *[lambda c, f=fault: f(c, self) for fault in faults],
            lambda c: self.serve(c),
        )

    def read(self, connection: Connection) -> bytes:
        """Execute the next order and return its answer."""
        request = json.loads(connection.frame())
        self.asked.append(request["id"])
        duplicate = request["id"] in self.executed
        if not duplicate:
            self.executed.append(request["id"])
        return (
            json.dumps(
                {"ok": True, "order": {"id": request["id"], "side": "BUY"}, "duplicate": duplicate}
            ).encode()
            + b"*"
        )

    def serve(self, connection: Connection) -> None:
        """Answer every order without a fault."""
        while True:
            connection.send(self.read(connection))


def submit(server: OrderServer, count: int, timeout_s: float = 5.0) -> tuple[list[Any], list[str]]:
    counted: list[str] = []
    with server.server as fake:
        client = OrderClient(
            "127.0.0.1", fake.port, timeout_s, count=counted.append, backoff=Backoff(1, 2)
        )
        answers = client.submit(orders(count))
        client.close()
    assert [answer.order_id for answer in answers] == list(range(1, count + 1))
    assert server.executed == list(range(1, count + 1)), "each once, in order"
    return answers, counted


class TestOrderClient:
    def test_many_orders_in_one_call(self) -> None:
        answers, counted = submit(OrderServer(), 600)
        assert not any(answer.duplicate for answer in answers)
        assert counted == []

    def test_answers_byte_by_byte_and_coalesced(self) -> None:
        def slowly(connection: Connection, server: OrderServer) -> None:
            connection.send(server.read(connection) + server.read(connection), piece=1)
            connection.send(b"".join(server.read(connection) for _ in range(3)))
            connection.frame()

        submit(OrderServer(slowly), 5)

    def test_a_reset_before_after_and_within_an_answer(self) -> None:
        def before(connection: Connection, server: OrderServer) -> None:
            connection.frame()
            connection.reset()

        def after_execution(connection: Connection, server: OrderServer) -> None:
            server.read(connection)
            connection.reset()

        def within(connection: Connection, server: OrderServer) -> None:
            connection.send(server.read(connection) + server.read(connection)[:20])

        answers, counted = submit(OrderServer(before, after_execution, within), 4)
        assert [answer.duplicate for answer in answers] == [True, True, False, False]
        assert counted == ["reconnects"] * 3

    def test_no_answer_in_time(self) -> None:
        def hang(connection: Connection, server: OrderServer) -> None:
            server.read(connection)
            connection.frame()
            connection.frame()

        answers, counted = submit(OrderServer(hang), 2, timeout_s=0.3)
        assert [answer.duplicate for answer in answers] == [True, False]
        assert counted == ["orders_timed_out", "reconnects"]

    @pytest.mark.parametrize(
        "garbage",
        [
            b"*",
            b"hello*",
            b"[]*",
            b"{}*",
            b'{"ok":1}*',
            b"\xff\xfe*",
            b'{"ok":true,"order":{"id":999}}*',
            b'{"ok":true}' + b" " * 70000,
        ],
    )
    def test_malformed_answers(self, garbage: bytes) -> None:
        def lie(connection: Connection, server: OrderServer) -> None:
            connection.send(server.read(connection) + garbage)
            connection.frame()
            connection.frame()

        answers, _ = submit(OrderServer(lie), 3)
        assert all(answer.ok for answer in answers)

    def test_a_surplus_answer_is_not_taken_as_the_next_orders(self) -> None:
        def twice(connection: Connection, server: OrderServer) -> None:
            connection.send(server.read(connection) * 2)
            server.serve(connection)

        server = OrderServer(twice)
        with server.server as fake:
            client = OrderClient("127.0.0.1", fake.port, 5.0, backoff=Backoff(1, 2))
            seen = [client.submit([order])[0].order_id for order in orders(3)]
            client.close()
        assert seen == [1, 2, 3]
        assert server.executed == [1, 2, 3]

    def test_an_order_with_a_retryable_answer_is_sent_again(self) -> None:
        reject = b'{"ok":false,"code":"STORE","msg":"full","retryable":true,"id":2}*'

        def hold(connection: Connection, server: OrderServer) -> None:
            connection.send(server.read(connection))
            connection.frame()
            connection.send(reject)
            connection.frame()
            connection.frame()

        answers, _ = submit(OrderServer(hold), 3)
        assert [answer.ok for answer in answers] == [True, True, True]

    def test_a_reject_is_a_final_answer(self) -> None:
        def refuse(connection: Connection, server: OrderServer) -> None:
            connection.frame()
            connection.send(b'{"ok":false,"code":"QTY","msg":"qty","retryable":false,"id":1}*')
            connection.frame()

        with OrderServer(refuse).server as fake:
            client = OrderClient("127.0.0.1", fake.port, 5.0)
            (answer,) = client.submit(orders(1))
            assert (answer.ok, answer.code, answer.msg) == (False, "QTY", "qty")
            client.close()

    @pytest.mark.parametrize("listening", [True, False])
    def test_a_stop_ends_the_wait(self, listening: bool) -> None:
        stop = Stop()
        heartbeats: list[float] = []

        def heartbeat() -> None:
            heartbeats.append(time.monotonic())
            stop.requested = True

        with FakeServer(lambda c: (c.frame(), c.frame())[0] and None) as fake:
            port = fake.port if listening else unused_port()
            client = OrderClient(
                "127.0.0.1", port, 5.0, stop=stop, heartbeat=heartbeat, backoff=Backoff(1, 2)
            )
            with pytest.raises(StopRequested):
                client.submit(orders(1))
            client.close()
        assert heartbeats


def closed(connection: Connection, _server: OrderServer) -> None:
    connection.sock.close()


class TestMarks:
    def test_each_order_follows_the_prices_that_changed(self) -> None:
        """A new connection begins with the prices of the last answered order."""
        frames: list[list[dict[str, Any]]] = [[], []]

        def serve(connection: Connection, number: int, answered: int) -> None:
            while len(frames[number]) < answered:
                frames[number].append(json.loads(connection.frame()))
                if "id" in (asked := frames[number][-1]):
                    connection.send(json.dumps({"ok": True, "order": {"id": asked["id"]}}).encode())
                    connection.send(b"*")

        plain = orders(3)
        marks = [{"A": 1.0, "B": 2.0}, {}, {"B": 2.5}]
        marked = [one._replace(marks=m) for one, m in zip(plain, marks, strict=True)]
        with FakeServer(lambda c: serve(c, 0, 3), lambda c: serve(c, 1, 3)) as fake:
            client = OrderClient("127.0.0.1", fake.port, 0.5, backoff=Backoff(1, 2), proof="f" * 16)
            client.submit(marked)
            client.close()
        sent = [[f.get("id", f.get("marks")) for f in one] for one in frames]
        assert sent == [[{"A": 1.0, "B": 2.0}, 1, 2], [{"A": 1.0, "B": 2.0}, {"B": 2.5}, 3]]
        assert frames[1][0] == {"op": "marks", "proof": "f" * 16, "marks": {"A": 1.0, "B": 2.0}}


class TestWaiting:
    def test_an_order_without_an_answer_waits_until_it_is_answered(self) -> None:
        waited: list[float] = []

        def hang(connection: Connection, server: OrderServer) -> None:
            connection.frame()
            connection.frame()

        with OrderServer(hang).server as fake:
            client = OrderClient(
                "127.0.0.1",
                fake.port,
                0.6,
                backoff=Backoff(1, 2),
                heartbeat=lambda: waited.append(client.waiting_s),
            )
            client.submit(orders(1))
            assert max(waited) > 0.2
            assert client.waiting_s == 0
            client.close()

    def test_a_lost_connection_is_noticed_without_an_order_and_made_again(self) -> None:
        with OrderServer(closed).server as fake:
            client = OrderClient("127.0.0.1", fake.port, 5.0, backoff=Backoff(1, 2))
            client.connect()
            eventually(lambda: (client.maintain(), fake.connections)[1] == 2, "a new connection")
            assert client.waiting_s == 0
            client.close()

    def test_a_token_file_that_is_being_changed_does_not_end_a_client(
        self,
    ) -> None:
        wrong: list[str] = []

        def opener(timeout_s: float) -> socket.socket:
            if wrong:
                raise SettingsError(wrong.pop())
            return socket.create_connection(("127.0.0.1", fake.port), timeout_s)

        with OrderServer(closed).server as fake:
            client = OrderClient("", 0, 5.0, backoff=Backoff(1, 2), opener=opener)
            client.connect()
            wrong += ["ORDER_TOKEN_FILE=...: half a line"] * 2
            eventually(lambda: (client.maintain(), fake.connections)[1] == 2, "a new connection")
            assert not wrong
            client.close()
            wrong.append("ORDER_TOKEN_FILE=...: half a line")
            with pytest.raises(SettingsError):
                OrderClient("", 0, 5.0, opener=opener).connect()

    def test_while_there_is_no_order_manager_the_time_counts_from_the_loss(self) -> None:
        with OrderServer(closed).server as fake:
            client = OrderClient("127.0.0.1", fake.port, 5.0, backoff=Backoff(1, 2))
            client.connect()
            eventually(lambda: fake.connections == 1, "the connection")
        eventually(lambda: (client.maintain(), client.waiting_s > 0.2)[1], "0.2 s without one")
        client.close()


def test_send_order_is_one_frame_and_one_answer() -> None:
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                data = b""
                while not data.endswith(b"*"):
                    data += connection.recv(100)
                seen.append(data)
                for part in (b'{"ok":true,"or', b'der":{"id":1}}*'):
                    connection.sendall(part)

        thread = threading.Thread(target=serve)
        thread.start()
        order = {"side": "BUY", "symbol": "A*B", "qty": 10, "price": 173.2, "id": 1}
        chosen = Settings(order_manager_host="127.0.0.1", order_port=server.getsockname()[1])
        assert send_order(order, chosen) == {"ok": True, "order": {"id": 1}}
        thread.join(5)
    assert seen[0].count(b"*") == 1
    assert json.loads(seen[0][:-1]) == order
