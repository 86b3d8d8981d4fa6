"""The number of a container among its replicas, against a DNS server of our own."""

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.runtime.net import replica

Answer = Callable[[bytes], bytes]


def record(name: bytes, kind: int, data: bytes) -> bytes:
    return name + struct.pack("!HHIH", kind, 1, 600, len(data)) + data


def labels(name: str) -> bytes:
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


def answer_with(*records: bytes, flags: int = 0x8180) -> Answer:
    """An answer with these records, each for the name in the question, as Docker's server sends."""
    return lambda query: (
        query[:2]
        + struct.pack("!5H", flags, 1, len(records), 0, 0)
        + query[12:]
        + b"".join(records)
    )


QUESTION = b"\xc0\x0c"
"""A pointer to the name in the question."""
CNAME = record(QUESTION, 5, labels("other.example"))


def named(name: str) -> Answer:
    return answer_with(CNAME, record(QUESTION, 12, labels(name)))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[Answer], None]]:
    """Sets the engine's answer; records the name that was asked for."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        resolver = tmp_path / "resolv.conf"
        resolver.write_text("search example\nnameserver 127.0.0.1\noptions ndots:0\n")
        monkeypatch.setattr(replica, "RESOLVER_FILE", resolver)
        monkeypatch.setattr(replica, "ENGINE_DNS", server.getsockname())
        monkeypatch.setattr(replica.socket, "gethostbyname", lambda _name: "172.18.0.5")
        replica.replica_number.cache_clear()

        def serve(answer: Answer) -> None:
            query, peer = server.recvfrom(512)
            assert labels("5.0.18.172.in-addr.arpa") + struct.pack("!HH", 12, 1) == query[12:]
            server.sendto(answer(query), peer)

        threads: list[threading.Thread] = []

        def answer_once(answer: Answer) -> None:
            threads.append(threading.Thread(target=serve, args=(answer,)))
            threads[-1].start()

        yield answer_once
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive(), "nobody asked"
    replica.replica_number.cache_clear()


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("trading-strategy-1", 1),
        ("my-project-strategy-12", 12),
        ("old_compose_3", 3),
        ("trading-strategy-run-1234567890ab", None),
        ("trading-strategy-run-123456789012", None),
        ("strategy", None),
        ("strategy-0", None),
        ("strategy-12345", None),
        ("strategy2", None),
        ("", None),
    ],
)
def test_number_in_a_containers_name(name: str, number: int | None) -> None:
    assert replica.number_in(name) == number


def test_the_number_is_that_of_the_container(engine: Callable[[Answer], None]) -> None:
    engine(named("trading-strategy-2.trading_default"))
    assert replica.replica_number() == 2
    assert replica.replica_number() == 2, "asked once per process"


@pytest.mark.parametrize(
    "answer",
    [
        answer_with(flags=0x8183),  # no such name
        answer_with(CNAME),
        answer_with(record(QUESTION, 12, b"\xc0\x29")),  # points to itself
        named("trading-strategy.trading_default"),
        lambda query: query,
        lambda query: b"\0\0" + named("trading-strategy-2")(query)[2:],
        lambda query: b"",
        lambda query: bytes(200),
    ],
)
def test_without_a_usable_answer_there_is_no_number(
    engine: Callable[[Answer], None], answer: Answer
) -> None:
    engine(answer)
    assert replica.replica_number() is None


def test_a_silent_server_is_not_waited_for(
    engine: Callable[[Answer], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "TIMEOUT_S", 0.05)
    assert replica.replica_number() is None


def test_another_server_is_not_asked(
    engine: Callable[[Answer], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "container_name", lambda: pytest.fail("asked"))
    for text in ("nameserver 127.0.0.10\n", "nameserver 9.9.9.9\n", ""):
        (tmp_path / "resolv.conf").write_text(text)
        replica.replica_number.cache_clear()
        assert replica.replica_number() is None
    (tmp_path / "resolv.conf").unlink()
    replica.replica_number.cache_clear()
    assert replica.replica_number() is None


def test_a_damaged_answer_is_a_value_error_or_a_name() -> None:
    query = replica.reverse_query("172.18.0.5", 1)
    whole = named("trading-strategy-2.trading_default")(query)
    assert replica.first_name(whole, query) == "trading-strategy-2.trading_default"
    chance = random.Random(1)
    for _ in range(3000):
        damaged = bytearray(whole[: chance.randrange(len(whole) + 1)])
        for _ in range(chance.randrange(4)):
            if damaged:
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        with contextlib.suppress(ValueError):
            assert isinstance(replica.first_name(bytes(damaged), query), str)
