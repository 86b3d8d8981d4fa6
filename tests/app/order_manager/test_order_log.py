"""The order manager's log: lines written together, never split, without blocking."""

import fcntl
import json
import os
import select
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.model.orders import BUY, DENIED, FILLED, GTC, LIMIT, NEW, SELL, Order
from app.model.reject_codes import RejectCode
from app.order_manager.order_log import (
    BACKLOG_BYTES_MAX,
    DELAY_NS,
    WRITE_BYTES,
    Event,
    Note,
    OrderLog,
)
from tests.support.orders.frames import ORDER
from tests.support.orders.process import OrderManagerProcess

NOW_NS = 1_763_800_000_123_456_789


def line_of(text: str) -> Event:
    """An event of which only the text matters."""
    return Note("note", text)


class Pipe:
    """A pipe, as between a container and its log driver."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def read(self) -> str:
        """The result of one read; empty if there is nothing to read."""
        ready, _, _ = select.select([self.reading], [], [], 0)
        return os.read(self.reading, 1 << 20).decode() if ready else ""

    def close(self) -> None:
        for descriptor in (self.reading, self.writing):
            os.close(descriptor)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_lines_are_written_together(pipe: Pipe) -> None:
    log = OrderLog(descriptor=pipe.writing)
    log.write([line_of("Received Order 1")], NOW_NS)
    log.write([line_of("Received Order 2")], NOW_NS + DELAY_NS - 1)
    assert log.pending
    assert pipe.read() == ""
    log.write([line_of("Received Order 3")], NOW_NS + DELAY_NS)
    assert not log.pending
    stamps = [123456, 143456, 143456]
    assert pipe.read().splitlines() == [
        f"2025-11-22T08:26:40.{stamp}Z INFO order_manager Received Order {n}"
        for n, stamp in enumerate(stamps, 1)
    ]


def test_drain_writes_the_rest(pipe: Pipe) -> None:
    log = OrderLog("json", descriptor=pipe.writing)
    log.write([Note("trading_mode", "text", {"reason": '"x"\n'})], NOW_NS)
    assert pipe.read() == ""
    log.drain()
    line = json.loads(pipe.read())
    assert (line["event"], line["level"], line["reason"]) == ("trading_mode", "info", '"x"\n')


def test_a_client_cannot_imitate_a_line_or_a_field(tmp_path: Path) -> None:
    """Its name and its reasons are quoted where they are more than a word."""
    name = 'eve id=7 filled=0 "'
    asked: list[dict[str, Any]] = [
        {**ORDER, "id": 1},
        {**ORDER, "id": 1, "qty": 11},
        {**ORDER, "id": 2, "qty": 10**12},
        {**ORDER, "id": 3, "type": "LIMIT", "tif": "GTC"},
        {"op": "cancel", "id": 3},
        {"op": "status", "id": 99},
        {"op": "halt", "reason": "x client=bob id=8"},
        {**ORDER, "id": 4},
    ]
    with OrderManagerProcess(tmp_path) as process:
        with process.client() as client:
            for request in asked:
                client.ask({**request, "client": name})
        process.stop()
    lines = [line for line in process.log().splitlines() if "eve" in line]
    assert len(lines) >= len(asked)
    for line in lines:
        words = shlex.split(line)
        assert not {"id=7", "client=bob", "id=8"} & set(words), line


def test_a_large_backlog_is_written_at_once_and_split_between_lines(pipe: Pipe) -> None:
    fcntl.fcntl(pipe.writing, fcntl.F_SETPIPE_SZ, 1 << 20)
    log = OrderLog(descriptor=pipe.writing)
    lines = [line_of(f"Received Order {n}") for n in range(WRITE_BYTES // 40)]
    while not pipe.read():
        log.write(lines, NOW_NS)
    log.drain()
    # A pipe takes PIPE_BUF at a time; other lines of the process may come in between.
    slow = OrderLog(descriptor=pipe.writing)
    fcntl.fcntl(pipe.writing, fcntl.F_SETPIPE_SZ, 4096)
    slow.write(lines, NOW_NS)
    slow.drain()
    assert slow.pending
    assert pipe.read().endswith("\n")


def test_lines_dropped_for_a_stalled_reader_are_counted_and_logged(pipe: Pipe) -> None:
    log = OrderLog(descriptor=pipe.writing)
    line = "x" * 60_000
    written = 0
    while not log.dropped:
        written += 1
        log.write([line_of(line)], NOW_NS + written * DELAY_NS)
    assert written * 60_000 > BACKLOG_BYTES_MAX
    log.write([line_of(line)], NOW_NS + (written + 1) * DELAY_NS)
    assert log.dropped == 2
    while log.pending:
        pipe.read()
        log.drain()
    log.write([line_of("after")], NOW_NS)
    log.drain()
    assert pipe.read().splitlines()[-2].endswith("log_lines_dropped=2")


def test_a_closed_pipe_discards_the_backlog(pipe: Pipe) -> None:
    log = OrderLog(descriptor=pipe.writing)
    os.close(pipe.reading)
    pipe.reading = os.dup(pipe.writing)
    log.write([line_of("lost")], NOW_NS)
    log.drain()
    assert not log.pending


def test_a_disabled_log_keeps_nothing(pipe: Pipe) -> None:
    log = OrderLog(level="ERROR", descriptor=pipe.writing)
    log.write([line_of("Received Order 1")], NOW_NS)
    assert not log.pending


CLIENT = 'my "desk"'
RECEIVED = Order(1, 1, 84, 1, BUY, "NVDA", 10, 96_440_000_000, LIMIT, GTC, None, FILLED, 10)
RESTING = Order(2, 1, 85, 1, SELL, "NVDA", 10, None, LIMIT, GTC, None, NEW, 3)
DENIAL = Order(3, 1, 86, 1, BUY, "A*B", 5, 10**9, LIMIT, GTC, None, DENIED)
DENIAL.code, DENIAL.msg = int(RejectCode.FRAME_RATE), 'too "many"'
EVENTS: list[Event] = [
    ("Received", RECEIVED, CLIENT),
    ("Received", RESTING, CLIENT),
    ("Denied", DENIAL, CLIENT),
    ("Repeated", DENIAL, CLIENT),
    Note("trading_mode", "Trading mode of stack is halted", {"mode": "halted"}, warning=True),
]


def test_text_lines_are_those_that_users_know(pipe: Pipe) -> None:
    log = OrderLog(descriptor=pipe.writing)
    client = '"my \\"desk\\""'
    log.write(EVENTS, NOW_NS)
    log.drain()
    lines = [line.partition("Z ")[2] for line in pipe.read().splitlines()]
    assert lines == [
        f"INFO order_manager Received Order 84: BUY 10 NVDA @ 96.44 client={client} id=84",
        f"INFO order_manager Received Order 85: SELL 10 NVDA @ MARKET client={client} id=85 "
        "filled=3",
        f"WARNING order_manager Denied Order 86: BUY 5 A*B @ 1.00 client={client} id=86 "
        'FRAME_RATE: too "many"',
        f"INFO order_manager Repeated Order 86: BUY 5 A*B @ 1.00 client={client} id=86 "
        'FRAME_RATE: too "many"',
        "WARNING order_manager Trading mode of stack is halted",
    ]


def test_json_lines_have_the_order_as_fields(pipe: Pipe) -> None:
    log = OrderLog("json", descriptor=pipe.writing)
    log.write(EVENTS, NOW_NS)
    log.drain()
    received, resting, denied, repeated, halted = map(json.loads, pipe.read().splitlines())
    assert received == {
        "ts": "2025-11-22T08:26:40.123456Z",
        "level": "info",
        "service": "order_manager",
        "event": "order_received",
        "client": CLIENT,
        "id": 84,
        "symbol": "NVDA",
        "side": "BUY",
        "qty": 10,
        "price": 96.44,
        "filled_qty": 10,
        "status": "Filled",
    }
    assert (resting["price"], resting["filled_qty"], resting["status"]) == (None, 3, "New")
    assert (denied["event"], denied["level"]) == ("order_denied", "warning")
    assert (denied["code"], denied["msg"]) == ("FRAME_RATE", 'too "many"')
    assert (repeated["event"], repeated["level"]) == ("order_repeated", "info")
    assert {"code", "msg"} <= repeated.keys()
    assert (halted["event"], halted["level"], halted["mode"]) == (
        "trading_mode",
        "warning",
        "halted",
    )


@pytest.mark.parametrize("form", ["text", "json"])
def test_level_warning_keeps_denials_and_other_warnings(pipe: Pipe, form: str) -> None:
    log = OrderLog(form, "WARNING", pipe.writing)
    log.write(EVENTS[:2], NOW_NS)
    assert not log.pending
    log.write(EVENTS, NOW_NS)
    log.drain()
    lines = pipe.read().splitlines()
    assert len(lines) == 2
    assert "FRAME_RATE" in lines[0]
    assert "halted" in lines[1]
