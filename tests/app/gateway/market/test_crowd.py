"""Many connections to the control port: nobody else is kept out."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from app.gateway.control import STRANGERS_MAX
from app.market_data.feed import Feed
from app.model.wire.feed_protocol import answer_who
from tests.app.gateway.market.test_control import Client
from tests.support.feed_helpers import PROOF, PROVEN, Running, make_settings, running

pytestmark = pytest.mark.medium


@pytest.fixture
def market(feed: Feed) -> Iterator[Running]:
    """Stands still at tick 0, and waits for nobody."""
    with running(feed, make_settings(price_subscribers=0, start_paused=True, pace="9/s")) as found:
        yield found


def test_a_crowd_does_not_keep_anybody_out(market: Running) -> None:
    with ExitStack() as crowd:
        others = [crowd.enter_context(Client(market.control_port)) for _ in range(100)]
        for other in others:  # most of them are closed by now
            with suppress(ConnectionError):
                other.socket.sendall(b'{"op":"status"}*')
        time.sleep(0.2)
        with Client(market.control_port, PROVEN) as stack:
            assert stack.ask({"op": "step"})["ok"]
        with Client(market.control_port) as last:
            assert last.ask({"op": "status"})["ok"]
        control = market.server._handshake.control
        assert len(control._clients) <= STRANGERS_MAX + 1


def test_who_only_asks_gives_way_like_any_other(market: Running) -> None:
    with ExitStack() as crowd:
        for _ in range(2 * STRANGERS_MAX):
            crowd.enter_context(Client(market.control_port, b"WHO|12345*"))
        time.sleep(0.1)
        for _ in range(3):
            with Client(market.control_port) as last:
                assert last.ask({"op": "status"})["ok"]


def test_a_crowd_in_between_does_not_turn_away_the_stack(market: Running) -> None:
    """Between its question, the answer and its proof there may be hundreds of others."""
    with ExitStack() as crowd:

        def come(count: int) -> None:
            for _ in range(count):
                crowd.enter_context(socket.create_connection(("127.0.0.1", market.control_port)))
            time.sleep(0.1)

        stack = crowd.enter_context(Client(market.control_port, b"WHO|12345*"))
        come(3 * STRANGERS_MAX)
        assert stack.read_until(lambda data: b"*" in data) == answer_who(b"WHO|12345", PROOF)
        stack.data = b""
        stack.socket.sendall(PROVEN)
        come(3 * STRANGERS_MAX)
        assert stack.ask({"op": "step"})["ok"]
