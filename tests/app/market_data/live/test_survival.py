"""The processes and the disk of a live session."""

import errno
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.market_data.live.records import TRADE
from tests.app.market_data.live.fake_exchange import FakeExchange
from tests.app.market_data.live.live_session import Logged, events, sent, session, settings_of
from tests.support.children import Child, eventually

pytestmark = pytest.mark.medium


def test_a_receiver_that_dies_is_started_again(tmp_path: Path, logged: Logged) -> None:
    with FakeExchange(per_s=300) as exchange, session(settings_of(exchange), tmp_path) as mine:
        mine.until("ticks", lambda: mine.feed.available > 50)
        os.kill(mine.receiver.pid, signal.SIGKILL)
        mine.until("it connects again", lambda: mine.counts["live_connects"] == 2)
        before = mine.feed.available
        mine.until("more ticks", lambda: mine.feed.available > before + 50)
        assert mine.counts["live_missing"] > 0
    assert events(logged, "live_receiver_died")[0]["exit_code"] == -signal.SIGKILL


@pytest.mark.parametrize(
    "packet",
    [
        b'J{"type":"lost","reason":"x","pause_s":null}',
        b'J{"type":"lost","reason":"\xff","pause_s":1}',
        b"J{",
        b"T1234567",
        b"?",
    ],
)
def test_a_receiver_that_talks_nonsense_is_started_again(
    tmp_path: Path, logged: Logged, packet: bytes
) -> None:
    """The ticks before the nonsense are kept, and nothing after it is taken."""
    good = np.zeros(1, TRADE)
    good["exchange_ns"] = good["receive_ns"] = time.time_ns()
    good["price"] = good["trade_id"] = 1
    with (
        FakeExchange(per_s=300, limit=100) as exchange,
        session(settings_of(exchange), tmp_path) as mine,
    ):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        assert mine.session._socket is not None
        mine.session._socket.close()
        mine.session._socket = ours
        with theirs:
            theirs.send(b"T" + good.tobytes())
            theirs.send(packet)
            theirs.send(b"T" + good.tobytes())
            mine.until("it is noticed", lambda: events(logged, "live_receiver_died"))
            assert mine.feed.available == 1
        mine.until("ticks of another", lambda: mine.feed.available > 50)


def test_no_receiver_outlives_its_gateway(tmp_path: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from app.config.settings import Settings
        from app.market_data.live.opening import begin_recording
        settings = Settings(data_path=sys.argv[1], live_symbols="BTCUSDT")
        feed, session = begin_recording(settings, Path(sys.argv[2]))
        session.start()
        while not session.connected:
            session.take()
            time.sleep(0.01)
        print("pid", session._process.pid, flush=True)
        sys.stdin.readline()
    """
    with FakeExchange(per_s=100) as exchange:
        child = Child(code, exchange.url, tmp_path / "run.ticks")
        while not (line := child.line()).startswith("pid "):
            pass
        pid = int(line.split()[1])
        child.kill()
        eventually(lambda: not Path(f"/proc/{pid}").exists(), "the receiver is gone")
        child.close()


def test_who_does_not_read_holds_the_exchange_up_and_uses_no_memory(tmp_path: Path) -> None:
    with (
        FakeExchange(per_s=4000, limit=12_000) as exchange,
        session(settings_of(exchange, live_ping_s=20), tmp_path) as mine,
    ):
        mine.until("ticks", lambda: mine.feed.available > 100)
        pages = f"/proc/{mine.receiver.pid}/statm"
        before = int(Path(pages).read_text().split()[1])
        time.sleep(2.0)
        grown_bytes = (int(Path(pages).read_text().split()[1]) - before) * 4096
        assert grown_bytes < 20 << 20
        mine.until("all", lambda: mine.feed.available == 12_000)
        assert mine.counts["live_connects"] == 1


def test_without_room_on_the_disk_nothing_is_released_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    real, full = os.pwrite, [False]

    def pwrite(descriptor: int, data: Any, at: int) -> int:
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with (
        FakeExchange(limit=3000, per_s=1000) as exchange,
        session(settings_of(exchange, live_ping_s=20), tmp_path) as mine,
    ):
        mine.until("ticks", lambda: mine.feed.available > 100)
        full[0] = True
        mine.until("full", lambda: not mine.session.writable)
        stands = mine.feed.available
        assert not mine.session.flows
        for _ in range(50):
            mine.turn()
            time.sleep(0.01)
        assert mine.feed.available == stands
        full[0] = False
        mine.until("all", lambda: mine.feed.available == 3000)
        assert mine.ids() == sent(exchange)
        assert mine.counts["live_missing"] == 0
    assert len(events(logged, "live_not_recorded")) == 1
    assert len(events(logged, "live_recorded_again")) == 1


def test_a_session_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    with FakeExchange(per_s=500) as exchange:
        with session(settings_of(exchange), tmp_path) as mine:
            mine.until("ticks", lambda: mine.feed.available > 100)
            first, feed_id = mine.ids(), mine.feed.feed_id
        with session(settings_of(exchange), tmp_path) as mine:
            assert mine.ids() == first
            assert mine.feed.feed_id == feed_id
            mine.until("more", lambda: mine.feed.available > len(first) + 200)
            assert mine.ids()[: len(first)] == first
            assert mine.counts["live_missing"] > 0
