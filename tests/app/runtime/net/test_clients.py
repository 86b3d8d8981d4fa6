"""Both ends of the connections against peers that reset, stall, lie and send garbage.

The orderbook process: ``test_orderbook.py``; history and sentiment: ``test_replayed_feeds.py``.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from app.model.wire.frames import MAX_FRAME_BYTES, RemoteProtocolError
from app.model.wire.order_json import encode_order
from app.runtime.lifecycle import Backoff, Stop
from app.runtime.net import feed_client
from app.runtime.net.feed_client import BUFFER_BYTES, FeedClosed, FeedConnection
from app.runtime.net.order_client import OrderClient, Unanswered
from tests.support.fake_servers import Connection, FakeServer, unused_port

HELLO = b"SYMBOLS|A,B*RUN|r1*SEQ|0*"
TICK = b"2025-10-01 09:30:00*A*1.5*"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_client, "HELLO_TIMEOUT_S", 0.3)


def connect(server: FakeServer, seq: int = 0, **keywords: bool) -> FeedConnection:
    return FeedConnection("127.0.0.1", server.port, seq, has_symbols=True, **keywords)


def says(*parts: bytes, piece: int = 0) -> Callable[[Connection], None]:
    """A gateway that reads the hello, says this, and waits for the client to go."""

    def handle(connection: Connection) -> None:
        connection.resume()
        for part in parts:
            connection.send(part, piece)
        connection.finish()

    return handle


def received(feed: FeedConnection, count: int) -> bytes:
    while feed.fill < count:
        feed.receive()
    return bytes(feed.buffer[: feed.fill])


def drain(feed: FeedConnection) -> None:
    """Receive what never makes a tick until the feed is given up."""
    try:
        for _ in range(1000):
            feed.receive()
            feed.consume(0)
    finally:
        feed.close()


class TestFeedConnection:
    @pytest.mark.parametrize("piece", [0, 1, 2, 7])
    def test_the_hello_in_any_pieces(self, piece: int) -> None:
        with FakeServer(says(HELLO + TICK * 2, piece=piece)) as server:
            feed = connect(server)
            assert (feed.symbols, feed.feed_id, feed.sequenced) == (["A", "B"], "r1", True)
            assert received(feed, 2 * len(TICK)) == TICK * 2
            feed.close()

    def test_what_stands_before_the_answer_is_left_out(self) -> None:
        with FakeServer(says(b"SYMBOLS|A*" + TICK + b"SEQ|7*" + TICK)) as server:
            feed = connect(server, 7)
            assert received(feed, len(TICK)) == TICK
            feed.close()

    @pytest.mark.parametrize(
        ("data", "error"),
        [
            (b"", FeedClosed),
            (b"SYMBOLS|A", FeedClosed),
            (b"SYMBOLS|A*RUN|r", FeedClosed),
            (b"HTTP/1.1 400 Bad Request\r\n*", RemoteProtocolError),
            (b"SYMBOLS|*", RemoteProtocolError),
            (b"SYMBOLS|A,A*", RemoteProtocolError),
            (b"SYMBOLS|12345678901*", RemoteProtocolError),
            (b"SYMBOLS|A*SEQ|1*", RemoteProtocolError),
            (b"SYMBOLS|A*SEQ|x*", RemoteProtocolError),
            (b"x" * 2 * BUFFER_BYTES, FeedClosed),
        ],
    )
    def test_hellos_that_are_none(self, data: bytes, error: type[Exception]) -> None:
        with FakeServer(says(data)) as server, pytest.raises(error):
            connect(server)

    def test_nobody_there(self) -> None:
        with pytest.raises(FeedClosed, match="refused"):
            FeedConnection("127.0.0.1", unused_port(), 0, has_symbols=True)

    def test_nothing_said(self) -> None:
        def silent(connection: Connection) -> None:
            connection.resume()
            connection.frame()

        with FakeServer(silent) as server, pytest.raises(FeedClosed, match="no symbol list"):
            connect(server)

    def test_a_plain_gateway_is_a_plain_feed_unless_it_is_known_to_be_none(self) -> None:
        def plain(connection: Connection) -> None:
            connection.send(b"SYMBOLS|A*" + TICK * 2)
            while connection.frame():
                pass

        with FakeServer(plain) as server:
            feed = connect(server)
            assert (feed.sequenced, feed.feed_id) == (False, "")
            assert received(feed, 2 * len(TICK)) == TICK * 2
            feed.close()
            with pytest.raises(FeedClosed):
                connect(server, must_be_sequenced=True)

    def test_a_plain_gateway_at_full_pace_fills_no_more_than_the_buffer(self) -> None:
        data = TICK * (3 * BUFFER_BYTES // len(TICK))

        def plain(connection: Connection) -> None:
            connection.send(b"SYMBOLS|A*" + data)
            connection.finish()

        with FakeServer(plain) as server:
            feed, total = connect(server), 0
            assert 0 < feed.fill <= BUFFER_BYTES
            while total + feed.fill < len(data):
                whole = feed.fill // len(TICK) * len(TICK)
                assert bytes(feed.buffer[:whole]) == TICK * (whole // len(TICK))
                feed.consume(whole)
                total += whole
                feed.receive()
            feed.close()

    @pytest.mark.parametrize("how", ["reset", "finish"])
    def test_a_reset_and_an_end_in_mid_frame(self, how: str) -> None:
        def half(connection: Connection) -> None:
            connection.resume()
            connection.send(HELLO + TICK[:10])
            connection.frame()
            getattr(connection, how)()

        with FakeServer(half) as server:
            feed = connect(server)
            assert received(feed, 10) == TICK[:10]
            feed._socket.sendall(b"go*")
            with pytest.raises(FeedClosed):
                drain(feed)
            feed.close()

    def test_silence_is_no_end(self) -> None:
        def quiet(connection: Connection) -> None:
            connection.resume()
            connection.send(HELLO)
            connection.frame()

        with FakeServer(quiet) as server:
            feed = connect(server)
            assert feed.receive() == 0
            assert feed.receive_now() == 0
            feed.close()

    @pytest.mark.parametrize(
        "start",
        [b"", b"2025-10-01 09:30:00*", b"2025-10-01 09:30:00*A*"],
        ids=["1st", "2nd", "3rd"],
    )
    def test_a_frame_too_long_in_any_field_is_refused_before_its_end(self, start: bytes) -> None:
        too_long = pytest.raises(RemoteProtocolError, match=f"over {MAX_FRAME_BYTES} bytes")
        with FakeServer(says(HELLO + start + b"x" * (4 * BUFFER_BYTES))) as server, too_long:
            drain(connect(server))

    def test_the_longest_unfinished_tick_has_room(self) -> None:
        field = b"x" * MAX_FRAME_BYTES
        with FakeServer(says(HELLO + field + b"*" + field + b"*" + field)) as server:
            feed = connect(server)
            while feed.fill < 3 * len(field) + 2:
                feed.receive()
                feed.consume(0)
            assert feed.buffer.count(b"*", 0, feed.fill) == 2
            feed.close()


def orders(count: int, first: int = 1) -> list[tuple[int, bytes]]:
    return [
        (i, encode_order(i, "me", "BUY", "A", 10, 1.5, "2025-10-01 09:30:00"))
        for i in range(first, first + count)
    ]


class OrderServer:
    """Answers by id; a repeated id is a duplicate.  ``faults`` go to the connections in order."""

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
        """Properly."""
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
    def test_many_orders_in_one_go(self) -> None:
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
    def test_an_answer_that_is_none(self, garbage: bytes) -> None:
        def lie(connection: Connection, server: OrderServer) -> None:
            connection.send(server.read(connection) + garbage)
            connection.frame()
            connection.frame()

        answers, _ = submit(OrderServer(lie), 3)
        assert all(answer.ok for answer in answers)

    def test_one_answer_too_many_is_not_taken_for_the_next_order(self) -> None:
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

    def test_a_retryable_answer_is_no_answer(self) -> None:
        reject = b'{"ok":false,"code":"STORE","msg":"full","retryable":true,"id":2}*'

        def hold(connection: Connection, server: OrderServer) -> None:
            connection.send(server.read(connection))
            connection.frame()
            connection.send(reject)
            connection.frame()
            connection.frame()

        answers, _ = submit(OrderServer(hold), 3)
        assert [answer.ok for answer in answers] == [True, True, True]

    def test_a_refusal_is_an_answer(self) -> None:
        def refuse(connection: Connection, server: OrderServer) -> None:
            connection.frame()
            connection.send(b'{"ok":false,"code":"QTY","msg":"qty","retryable":false,"id":1}*')
            connection.frame()

        with OrderServer(refuse).server as fake:
            client = OrderClient("127.0.0.1", fake.port, 5.0)
            (answer,) = client.submit(orders(1))
            assert (answer.ok, answer.code, answer.msg) == (False, "QTY", "qty")
            client.close()

    @pytest.mark.parametrize("there", [True, False])
    def test_a_stop_ends_the_waiting(self, there: bool) -> None:
        stop = Stop()
        heartbeats: list[float] = []

        def heartbeat() -> None:
            heartbeats.append(time.monotonic())
            stop.requested = True

        with FakeServer(lambda c: (c.frame(), c.frame())[0] and None) as fake:
            port = fake.port if there else unused_port()
            client = OrderClient(
                "127.0.0.1", port, 5.0, stop=stop, heartbeat=heartbeat, backoff=Backoff(1, 2)
            )
            with pytest.raises(Unanswered):
                client.submit(orders(1))
            client.close()
        assert heartbeats
