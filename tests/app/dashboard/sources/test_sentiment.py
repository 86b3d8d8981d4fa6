"""Sentiment for the chart: nothing that the gateway or a name server does makes the page wait."""

import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from app.config.settings import Settings
from app.dashboard.sources import sentiment
from app.dashboard.sources.sentiment import NONE, Sentiments
from tests.support.children import eventually

LATE = int(datetime(2025, 10, 1, 9, 31, tzinfo=UTC).timestamp()) * 10**9


@pytest.fixture
def gateway() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        yield listening


def sentiments(gateway: socket.socket, host: str = "127.0.0.1") -> Sentiments:
    port = gateway.getsockname()[1]
    made = Sentiments(Settings(gateway_host=host, sentiment_port=port, shm_metrics="no_such"))
    made.use(["A", "B"])
    return made


def read(made: Sentiments) -> None:
    begin_s = time.monotonic()
    made.read(of_stack=True)
    assert time.monotonic() - begin_s < 1


def test_it_reads_what_comes(gateway: socket.socket) -> None:
    made = sentiments(gateway)
    read(made)
    connection, _ = gateway.accept()
    connection.sendall(b"2025-10-01 09:30:00*B*61*2025-10-01 09:3")

    def known() -> bool:
        read(made)
        return made.at(1, LATE) == 61

    eventually(known, "the sentiment", 5)
    assert made.problem == ""
    assert made.at(0, LATE) == NONE
    connection.sendall(b"0:30*B*62*")
    eventually(lambda: read(made) is None and made.at(1, LATE) == 62, "the next", 5)
    connection.close()
    eventually(lambda: read(made) is None and made.problem != "", "its end", 5)
    assert "closed" in made.problem
    made.close()


def test_a_name_that_takes_long_to_resolve(
    gateway: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, asked = threading.Event(), threading.Event()
    real = socket.getaddrinfo

    def slow(host: str, *rest: Any, **more: Any) -> Any:
        asked.set()
        answers.wait(10)
        return real("127.0.0.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    made = sentiments(gateway, "gateway.example")
    read(made)
    assert asked.wait(5)
    for _ in range(5):
        read(made)
    assert made.problem == "not connected yet"
    answers.set()
    gateway.accept()[0].close()
    # One that is not wanted any more is closed when it is there.
    answers.clear()
    made.close()
    other = sentiments(gateway, "gateway.example")
    read(other)
    other.close()
    answers.set()
    connection, _ = gateway.accept()
    connection.settimeout(5)
    assert connection.recv(1) == b""


def test_after_the_end_of_a_run_it_asks_ever_less_often(
    gateway: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each connection is two lines in the gateway's log."""
    now_s = 1000.0
    monkeypatch.setattr(sentiment, "time", SimpleNamespace(monotonic=lambda: now_s))
    made = sentiments(gateway)

    def connects_after(pause_s: float, data: bytes = b"") -> None:
        nonlocal now_s
        now_s += pause_s - 0.01
        made.read(of_stack=False)
        gateway.settimeout(0.05)
        with pytest.raises(TimeoutError):
            gateway.accept()
        now_s += 0.01
        accept(data)

    def accept(data: bytes = b"") -> None:
        gateway.settimeout(5)
        made.read(of_stack=False)
        with gateway.accept()[0] as connection:
            connection.sendall(data)
        made.problem = ""
        eventually(lambda: made.read(of_stack=False) or made.problem, "its end", 5)

    accept()
    for pause_s in (2, 4, 8, 16, 32, 60, 60):
        connects_after(pause_s)
    connects_after(60, b"2025-10-01 09:30:00*B*61*")
    assert made.at(1, LATE) == 61
    connects_after(60)
    connects_after(4)
    made.close()


def test_nobody_listens(gateway: socket.socket) -> None:
    made = sentiments(gateway)
    gateway.close()
    eventually(lambda: read(made) is None and "refused" in made.problem, "the reason", 5)
    assert made.problem.startswith("127.0.0.1:")
    made.close()
