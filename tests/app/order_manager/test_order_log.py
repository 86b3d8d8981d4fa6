"""The order manager's log: lines written together, never split, without blocking."""

import fcntl
import json
import os
import select
from collections.abc import Iterator

import pytest

from app.order_manager.order_log import BACKLOG_BYTES_MAX, DELAY_NS, WRITE_BYTES, OrderLog

NOW_NS = 1_763_800_000_123_456_789


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
    log.write(["Received Order 1"], NOW_NS)
    log.write(["Received Order 2"], NOW_NS + DELAY_NS - 1)
    assert log.pending
    assert pipe.read() == ""
    log.write(["Received Order 3"], NOW_NS + DELAY_NS)
    assert not log.pending
    stamps = [123456, 143456, 143456]
    assert pipe.read().splitlines() == [
        f"2025-11-22T08:26:40.{stamp}Z INFO order_manager Received Order {n}"
        for n, stamp in enumerate(stamps, 1)
    ]


def test_drain_writes_the_rest(pipe: Pipe) -> None:
    log = OrderLog("json", descriptor=pipe.writing)
    log.write(['Received Order 1: "x"'], NOW_NS)
    assert pipe.read() == ""
    log.drain()
    assert json.loads(pipe.read())["event"] == 'Received Order 1: "x"'


def test_a_large_backlog_is_written_at_once_and_split_between_lines(pipe: Pipe) -> None:
    fcntl.fcntl(pipe.writing, fcntl.F_SETPIPE_SZ, 1 << 20)
    log = OrderLog(descriptor=pipe.writing)
    lines = [f"Received Order {n}" for n in range(WRITE_BYTES // 40)]
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
        log.write([line], NOW_NS)
        written += 1
    assert written * 60_000 > BACKLOG_BYTES_MAX
    log.write([line], NOW_NS)
    assert log.dropped == 2
    while log.pending:
        pipe.read()
        log.drain()
    log.write(["after"], NOW_NS)
    log.drain()
    assert pipe.read().splitlines()[-2].endswith("log_lines_dropped=2")


def test_a_closed_pipe_discards_the_backlog(pipe: Pipe) -> None:
    log = OrderLog(descriptor=pipe.writing)
    os.close(pipe.reading)
    pipe.reading = os.dup(pipe.writing)
    log.write(["lost"], NOW_NS)
    log.drain()
    assert not log.pending


def test_a_disabled_log_keeps_nothing(pipe: Pipe) -> None:
    log = OrderLog(enabled=False, descriptor=pipe.writing)
    log.write(["Received Order 1"], NOW_NS)
    assert not log.pending
