"""The market of a live feed."""

import errno
import json
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.gateway.live import LiveInput
from app.market_data.live.live_feed import LiveFeed
from app.market_data.live.opening import begin_recording
from app.market_data.live.tick_log import TickLog
from app.model.wire.frames import json_frame
from tests.app.market_data.live.fake_exchange import FakeExchange
from tests.app.market_data.live.live_session import settings_of
from tests.support.feed_helpers import PROVEN, WireClient, make_settings, running

pytestmark = pytest.mark.medium


@pytest.mark.parametrize("where", [{"tick": 5}, {"time": "2025-10-01 23:00:00"}])
def test_before_the_first_tick_there_is_no_place_to_jump_to(
    tmp_path: Path, where: dict[str, Any]
) -> None:
    log, _ = TickLog.append(tmp_path / "run.ticks", ["AAPL"], "ws://exchange/ws")
    live = LiveFeed(log, make_settings())
    with (
        running(live, make_settings(price_subscribers=0, start_paused=True)) as market,
        WireClient(market.control_port, PROVEN) as client,
    ):
        client.socket.sendall(json_frame(json.dumps({"op": "seek", **where}).encode()))
        answer = json.loads(client.read_until(lambda data: b"*" in data).partition(b"*")[0])
        assert (answer["code"], answer["msg"]) == ("NO_SUCH_TICK", "the run has no tick yet")
    log.close()


def test_a_receiver_that_dies_while_the_disk_is_full_keeps_nobody_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its descriptor is readable for ever; it is looked at again when there is room."""
    write, full = os.pwrite, [False]

    def pwrite(descriptor: int, data: Any, at: int) -> int:
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with FakeExchange(per_s=500) as exchange, select.epoll() as epoll:
        feed, session = begin_recording(settings_of(exchange), tmp_path / "run.ticks")
        live = LiveInput(feed, session, epoll, lambda: None, lambda: None)
        maintained_s = 0.0

        def until(holds: Callable[[], object]) -> None:
            nonlocal maintained_s
            end_s = time.monotonic() + 20
            while not holds():
                assert time.monotonic() < end_s
                if epoll.poll(0.01):
                    live.take()
                if time.monotonic() > maintained_s + 0.1:
                    maintained_s = time.monotonic()
                    live.maintain(maintained_s)

        try:
            until(lambda: feed.available > 50)
            full[0] = True
            until(lambda: not session.writable)
            assert session._process is not None
            session._process.kill()
            session._process.wait()
            assert [epoll.poll(0.01) for _ in range(5)] == [[]] * 5
            full[0] = False
            before = feed.available
            until(lambda: feed.available > before + 100 and session.counts["live_connects"] == 2)
        finally:
            live.close()
            feed.log.close()
