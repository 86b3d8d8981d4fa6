"""The feed client against gateways that reset, stall, lie and send garbage.

The orderbook and the strategy, which use this client, have tests of their own.
"""

from collections.abc import Callable

import pytest

from app.model.wire.frames import MAX_FRAME_BYTES, RemoteProtocolError
from app.runtime.net import feed_client
from app.runtime.net.feed_client import BUFFER_BYTES, FeedClosed, FeedConnection
from tests.support.fake_servers import Connection, FakeServer, unused_port

HELLO = b"SYMBOLS|A,B*RUN|r1*SEQ|0*"
TICK = b"2025-10-01 09:30:00*A*1.5*"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_client, "HELLO_TIMEOUT_S", 0.3)


def connect(server: FakeServer, seq: int = 0, **keywords: bool) -> FeedConnection:
    return FeedConnection("127.0.0.1", server.port, seq, has_symbols=True, **keywords)


def sends(*parts: bytes, piece: int = 0) -> Callable[[Connection], None]:
    """A gateway that reads the hello, sends ``parts``, and waits for the client to close."""

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
    """Receive bytes that never complete a tick, until the client gives up."""
    try:
        for _ in range(1000):
            feed.receive()
            feed.consume(0)
    finally:
        feed.close()


class TestFeedConnection:
    @pytest.mark.parametrize("piece", [0, 1, 2, 7])
    def test_the_hello_arrives_in_any_pieces(self, piece: int) -> None:
        with FakeServer(sends(HELLO + TICK * 2, piece=piece)) as server:
            feed = connect(server)
            assert (feed.symbols, feed.feed_id, feed.sequenced) == (["A", "B"], "r1", True)
            assert received(feed, 2 * len(TICK)) == TICK * 2
            feed.close()

    def test_ticks_before_the_answer_to_resume_are_skipped(self) -> None:
        with FakeServer(sends(b"SYMBOLS|A*" + TICK + b"SEQ|7*" + TICK)) as server:
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
            (b"SYMBOLS|" + b"1" * 33 + b"*", RemoteProtocolError),
            (b"SYMBOLS|A*SEQ|1*", RemoteProtocolError),
            (b"SYMBOLS|A*SEQ|x*", RemoteProtocolError),
            (b"x" * 2 * BUFFER_BYTES, FeedClosed),
        ],
    )
    def test_malformed_hellos(self, data: bytes, error: type[Exception]) -> None:
        with FakeServer(sends(data)) as server, pytest.raises(error):
            connect(server)

    def test_nobody_listens(self) -> None:
        with pytest.raises(FeedClosed, match="refused"):
            FeedConnection("127.0.0.1", unused_port(), 0, has_symbols=True)

    def test_nothing_sent(self) -> None:
        def silent(connection: Connection) -> None:
            connection.resume()
            connection.frame()

        with FakeServer(silent) as server, pytest.raises(FeedClosed, match="no symbol list"):
            connect(server)

    def test_a_gateway_without_resume_is_a_plain_feed_unless_it_was_sequenced_before(self) -> None:
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

    def test_a_plain_gateway_at_full_pace_fills_at_most_the_buffer(self) -> None:
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
    def test_a_reset_and_a_close_within_a_frame(self, how: str) -> None:
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

    def test_silence_does_not_close_the_connection(self) -> None:
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
    def test_an_overlong_frame_in_any_field_is_refused_before_it_ends(self, start: bytes) -> None:
        too_long = pytest.raises(RemoteProtocolError, match=f"over {MAX_FRAME_BYTES} bytes")
        with FakeServer(sends(HELLO + start + b"x" * (4 * BUFFER_BYTES))) as server, too_long:
            drain(connect(server))

    def test_the_longest_unfinished_tick_fits(self) -> None:
        field = b"x" * MAX_FRAME_BYTES
        with FakeServer(sends(HELLO + field + b"*" + field + b"*" + field)) as server:
            feed = connect(server)
            while feed.fill < 3 * len(field) + 2:
                feed.receive()
                feed.consume(0)
            assert feed.buffer.count(b"*", 0, feed.fill) == 2
            feed.close()
