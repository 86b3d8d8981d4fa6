"""The market of a live feed."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.market_data.live.live_feed import LiveFeed
from app.market_data.live.tick_log import TickLog
from app.model.wire.frames import json_frame
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
