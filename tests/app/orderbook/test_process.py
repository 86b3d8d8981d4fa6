"""The orderbook process with a gateway that cuts, resets, repeats and damages its stream."""

import re
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from app.orderbook import process
from app.runtime.metrics.snapshot import read_metrics
from app.runtime.net.feed_client import HELLO_TIMEOUT_S
from app.shared_memory_utils.metadata import SharedMemoryMetadata
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.tick_ring import LOSSLESS, TickRing
from tests.support.children import SHM, eventually
from tests.support.fake_servers import Connection, FakeServer
from tests.support.orderbook import (
    SYMBOLS,
    TICKS,
    Handler,
    Orderbook,
    cut,
    greeting,
    insert,
    serve,
    tick,
)


@pytest.fixture
def start(name: str) -> Iterator[Callable[..., Orderbook]]:
    started: list[Orderbook] = []

    def run(port: int, **settings: str) -> Orderbook:
        started.append(Orderbook(name, port, **settings))
        return started[-1]

    yield run
    for orderbook in started:
        if orderbook.process.poll() is None:
            orderbook.process.kill()
        orderbook.process.communicate()


Start = Callable[..., Orderbook]


def finished(ring: TickRing) -> bool:
    return ring.state.end_seq is not None


def run_of(start: Start, *handlers: Handler, **settings: str) -> tuple[list[int], str]:
    """Run to the end: the sequence numbers read, each checked with its price, and the log."""
    with FakeServer(*handlers) as server:
        orderbook = start(server.port, **settings)
        seen = orderbook.take(orderbook.ring(), finished)
        code, log = orderbook.stop()
    assert code == 0, log
    assert "Traceback" not in log
    assert [price for _, price in seen] == [seq + 1.5 for seq, _ in seen]
    return [seq for seq, _ in seen], log


def test_every_tick_once_in_order(start: Start, name: str) -> None:
    with FakeServer(serve()) as server:
        orderbook = start(server.port)
        ring = orderbook.ring()
        seen = orderbook.take(ring, finished)
        assert seen == [(seq, seq + 1.5) for seq in range(TICKS)]
        assert ring.state[:3] == (TICKS, TICKS, TICKS)
        with SharedPriceBook(name=f"{name}_book", create=False) as book:
            assert book.get_symbols() == SYMBOLS
            assert book.read_tick("TSLA")[0::3] == (3000.5, 2999)  # type: ignore[index]
        with SharedMemoryMetadata(f"{name}_metadata", create=False) as metadata:
            assert metadata.read()["feed_id"] == "r1"
        code, log = orderbook.stop()
    assert code == 0
    assert "feed_finished ticks=3000" in log
    assert server.connections == 1


@pytest.mark.parametrize("piece", [1, 7])
def test_feed_in_small_pieces(start: Start, piece: int) -> None:
    assert run_of(start, serve(piece=piece))[0] == list(range(TICKS))


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
def test_cut_connections_lose_and_duplicate_nothing(start: Start, reset: bool) -> None:
    cuts = [cut(size, reset) for size in (0, 10, 31, 1000, 45, 20_000)]
    seqs, log = run_of(start, *cuts, serve())
    assert seqs == list(range(TICKS))
    assert log.count("feed_lost") == len(cuts)


def test_a_gateway_that_loads_a_large_file_is_no_line_for_every_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 100.0
    monkeypatch.setattr(process.time, "monotonic", lambda: now_s)
    lost = process.LostFeed()
    with capture_logs() as lines:
        for _ in range(100):
            lost.log("refused")
            now_s += 0.25
        lost.log("reset")
        lost.log("refused")
    assert [(line["error"], line.get("attempts")) for line in lines] == [
        ("refused", None), ("refused", 41), ("refused", 81), ("reset", None), ("refused", None),
    ]  # fmt: skip


def test_occasionally_damaged_stream_loses_nothing(start: Start) -> None:
    damages = [b"x*y*z*", b"***", b"\0\xff\xfe*" * 3, b"END|x*", b"SEQ|5*", b"HI*", b"q" * 70_000]
    handlers = [insert(damage, 300 * i + 200) for i, damage in enumerate(damages)]
    seqs, log = run_of(start, *handlers, serve())
    assert seqs == list(range(TICKS)), log
    assert log.count("feed_lost") == len(damages)


def test_ticks_malformed_at_the_source_are_skipped_with_their_number(
    start: Start,
) -> None:
    wrong = {
        100: (b"2025-10-01 25:00:00*AAPL*1.0*", "timestamp that is not"),
        101: (b"Xmas*AAPL*1.0*", "timestamp that is not"),
        500: (b"2025-10-01 09:30:00*NONE*1.0*", "symbol that is not in the symbol list"),
        900: (
            b"2025-10-01 09:30:00*123456789012345678901234567890123*1.0*",
            "symbol that is not in the symbol list",
        ),
        1700: (b"2025-10-01 09:30:00*AAPL*-1*", "price that is not"),
        1701: (b"2025-10-01 09:30:00*AAPL*1e999*", "price that is not"),
        2999: (b"2025-10-01 09:30:00*AAPL*NaN*", "price that is not"),
    }

    def change(data: bytes) -> bytes:
        for seq, (text, _) in wrong.items():
            data = data.replace(tick(seq), text)
        return data

    seqs, log = run_of(start, serve(change))
    assert seqs == [seq for seq in range(TICKS) if seq not in wrong]
    for seq, (_, reason) in wrong.items():
        asked = re.findall(rf"tick_refused seq={seq} .*{re.escape(reason)}", log)
        assert len(asked) >= 2, f"tick {seq} was requested again before it was skipped"


def test_wrong_answer_to_resume_is_refused(start: Start) -> None:
    def repeats(connection: Connection) -> None:
        connection.resume()
        connection.send(greeting(0) + b"".join(map(tick, range(50))))
        connection.finish()

    seqs, log = run_of(start, cut(20_000, False), repeats, serve())
    assert seqs == list(range(TICKS))
    assert "got 0" in log


def test_end_with_another_tick_count_restarts_the_run(start: Start, name: str) -> None:
    def wrong(connection: Connection) -> None:
        first = connection.resume()
        connection.send(greeting(first) + b"".join(map(tick, range(first, 100))) + b"END|3000*")
        connection.finish()

    with FakeServer(wrong) as server:
        log, _ = start(server.port).process.communicate(timeout=20)
    assert "damaged feed: the gateway has sent 3000 ticks, 100 have arrived" in log
    assert not (SHM / f"{name}_ring").exists()
    (counted,) = read_metrics(f"{name}_metrics")
    assert counted.counters["gaps"] == 1
    assert run_of(start, serve())[0] == list(range(TICKS))
    (counted,) = read_metrics(f"{name}_metrics")
    assert (counted.counters["gaps"], counted.counters["ticks_received"]) == (1, TICKS)


def test_feed_of_another_run_ends_the_process(start: Start) -> None:
    def other(connection: Connection) -> None:
        connection.send(greeting(connection.resume(), "r2"))
        connection.finish()

    with FakeServer(cut(1000, False), other) as server:
        orderbook = start(server.port)
        log, _ = orderbook.process.communicate(timeout=20)
    assert orderbook.process.returncode == 1
    assert "another run (r2" in log


def test_full_ring_stops_the_gateway_and_the_process_can_still_be_stopped(start: Start) -> None:
    registered = threading.Event()

    def waits(connection: Connection) -> None:
        connection.send(greeting(connection.resume()))
        registered.wait(10)
        connection.send(b"".join(map(tick, range(TICKS))))
        connection.frame()

    with FakeServer(waits) as server:
        orderbook = start(server.port, RING_CAPACITY_TICKS="1024")
        ring = orderbook.ring()
        ring.register("sleeper", LOSSLESS)
        registered.set()
        eventually(lambda: ring.state.published == 1024, "the ring is full")
        code, _ = orderbook.stop()
        assert code == 0
        assert ring.state.published == 1024


def test_killed_orderbook_continues_where_it_was(start: Start) -> None:
    gate_ticks = 2000

    def first_part(connection: Connection) -> None:
        first = connection.resume()
        connection.send(greeting(first) + b"".join(map(tick, range(first, gate_ticks))))
        connection.finish()

    def hold(connection: Connection) -> None:
        connection.send(greeting(connection.resume()))
        connection.frame()

    with FakeServer(first_part, hold) as server:
        orderbook = start(server.port)
        ring = orderbook.ring()
        eventually(lambda: ring.state.published == gate_ticks, "the first part is written")
        orderbook.process.kill()
        orderbook.process.wait()
    with FakeServer(serve()) as server:
        successor = start(server.port)
        seen = successor.take(ring, finished)
        assert ring.is_current()
    assert [seq for seq, _ in seen] in (list(range(TICKS)), list(range(gate_ticks, TICKS)))
    assert ring.state[:3] == (TICKS, TICKS, TICKS)


def test_second_orderbook_does_not_start_while_the_first_is_alive(start: Start) -> None:
    with FakeServer(serve()) as server:
        first = start(server.port)
        ring = first.ring()
        eventually(lambda: finished(ring), "the run is written")
        with FakeServer(serve()) as other:
            second = start(other.port)
            log, _ = second.process.communicate(timeout=20)
        assert second.process.returncode == 1
        assert "another writer is alive" in log
        assert first.stop()[0] == 0


PLAIN_HELLO = b"SYMBOLS|AAPL,MSFT,TSLA*"


@pytest.mark.medium
@pytest.mark.parametrize("before", [b"", b"RUN|r1*"])
def test_a_gateway_that_answers_the_hello_late_is_no_plain_feed(
    start: Start, before: bytes
) -> None:
    """It was starved for seconds; nothing of it counts as damaged."""

    def late(connection: Connection) -> None:
        connection.send(PLAIN_HELLO + before, 1000)
        time.sleep(HELLO_TIMEOUT_S + 0.5)
        ticks = b"".join(map(tick, range(TICKS)))
        rest = b"RUN|r1*SEQ|0*".removeprefix(before)
        connection.send(rest + ticks + b"END|%d*" % TICKS, 4096)
        connection.finish()

    seqs, log = run_of(start, late)
    assert seqs == list(range(TICKS))
    assert " sequenced=True" in log
    assert "tick_refused" not in log


def plain(*parts: bytes) -> Handler:
    """A plain gateway: no RESUME, no SEQ, no END."""

    def handle(connection: Connection) -> None:
        connection.send(PLAIN_HELLO + b"".join(parts), 1000)
        while connection.frame():
            pass

    return handle


@pytest.mark.medium
def test_plain_gateway_with_garbage_between_its_ticks(start: Start) -> None:
    garbage = [
        b"x*y*z*",
        b"x*",
        b"HELLO*",
        b"2025-10-01 09:30:00*NONE*1.0*",
        b"2025-10-01 09:30:00*AAPL*NaN*",
        b"2025-10-01 09:30:00*AAPL*",
        b"2025-10-01 09:30:00*1.0*",
        b"AAPL*1.0*",
        b"\xff\0*" * 50,
    ]
    blocks = [b"".join(map(tick, range(20 * i, 20 * i + 20))) for i in range(len(garbage) + 1)]
    parts = [part for pair in zip(blocks, garbage, strict=False) for part in pair]
    count = 20 * len(blocks)
    with FakeServer(plain(*parts, blocks[-1])) as server:
        orderbook = start(server.port)
        seen = orderbook.take(orderbook.ring(), lambda ring: ring.state.published >= count)
        code, log = orderbook.stop()
    assert code == 0
    assert seen == [(seq, seq + 1.5) for seq in range(count)], "numbered in the order received"
    assert log.count("tick_refused") == len(garbage), "one log line for each piece of garbage"
