"""Whoever guesses tokens is soon not listened to; the stack's own processes are, from any host."""

import time
from pathlib import Path

from structlog.testing import capture_logs

from app.runtime.net.strangers import FREE, REFUSALS_LOGGED, STRANGERS_OF_HOST_MAX
from tests.support.orders.frames import ORDER
from tests.support.orders.process import Client
from tests.support.orders.server import running

TOKEN = "correct-horse-battery-staple"


def test_a_crowd_of_wrong_tokens_is_refused_without_a_look(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with running(tmp_path, order_token_file=str(tmp_path / "token")) as server:
        with server.stranger() as friend, capture_logs() as lines:
            assert friend.ask({"op": "auth", "token": TOKEN})["ok"]
            asked = 0
            for n in range(200):
                with server.stranger() as guesser:
                    guesser.send({"op": "auth", "token": f"guess number {n} of many"})
                    if guesser.closed():
                        continue
                asked += 1
                started_s = time.monotonic()
                assert friend.ask(ORDER)["ok"], "who has the token notices nothing"
                assert time.monotonic() - started_s < 5
            assert asked <= STRANGERS_OF_HOST_MAX + FREE + 5
            with server.stranger() as late:
                late.send({"op": "auth", "token": TOKEN})
                assert late.closed(), "nobody of this host is listened to for a while"
            (file,) = tmp_path.glob("orders-*.token")  # of the run's folder
            for _ in range(20):
                with Client(server.port, token=file.read_text().strip()) as own:
                    answer = own.ask(ORDER)
                    assert answer["ok"], answer
        assert len(lines) <= 2 * REFUSALS_LOGGED
        assert "costs a place for 0.5 s" in str(lines)
