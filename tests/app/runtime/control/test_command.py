"""``python -m app replay``: what it asks for, and what it prints."""

import secrets
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.runtime.control.command import SUBCOMMANDS, describe, request_of
from tests.support.environ import default_environ
from tests.support.feed_helpers import (
    WireClient,
    make_feed,
    make_settings,
    running,
    write_ticks,
)
from tests.support.paths import ROOT

MARKET = {
    "mode": "play",
    "paused": False,
    "pace": "1000/s",
    "tick": 374,
    "until": None,
    "event_time": "2025-10-01 09:35:00",
    "started": True,
    "finished": False,
}


@pytest.mark.parametrize(
    ("where", "members"),
    [
        ("12000", {"tick": 12000}),
        ("12,000", {"tick": 12000}),
        ("0", {"tick": 0}),
        ("2025-10-01 09:45:00", {"time": "2025-10-01 09:45:00"}),
        ("2025-10-01", {"time": "2025-10-01"}),
        ("1759311000000000000", {"time": "1759311000000000000"}),
        ("noon", {"time": "noon"}),
    ],
)
def test_a_place_is_a_tick_or_a_time(where: str, members: dict[str, Any]) -> None:
    assert request_of("seek", {"where": where}) == {"op": "seek", **members}


def test_the_other_requests() -> None:
    assert request_of("step", {"ticks": 5}) == {"op": "step", "ticks": 5}
    assert request_of("speed", {"pace": "60x"}) == {"op": "speed", "pace": "60x"}
    assert request_of("pause", {}) == {"op": "pause"}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "the market plays at 1000/s"),
        ({"mode": "paused", "paused": True}, "the market stands still, pace 1000/s"),
        ({"mode": "hurry", "until": 500}, "the market jumps to tick 500, pace 1000/s, then plays"),
        (
            {"mode": "hurry", "until": 500, "paused": True},
            "the market jumps to tick 500, pace 1000/s",
        ),
        ({"started": False}, "the market waits for its clients; then it plays at 1000/s"),
        ({"finished": True}, "the market is over"),
    ],
)
def test_the_state_is_one_line(changes: dict[str, Any], line: str) -> None:
    assert describe({**MARKET, **changes}) == f"{line}; 374 ticks sent, 2025-10-01 09:35:00"


def replay(port: int, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", "replay", *words],
        cwd=ROOT,
        env={
            **default_environ(),
            "CONTROL_PORT": str(port),
            "SHM_METRICS": f"absent_{secrets.token_hex(4)}",
            **changes,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.medium
def test_what_a_user_sees(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef role=operator\n")
    feed = make_feed(write_ticks(tmp_path / "feed.csv", 300))
    settings = make_settings(
        price_subscribers=0, start_paused=True, order_token_file=str(token), pace="9/s"
    )
    with running(feed, settings) as market:
        done = replay(market.control_port, "step", "5", ORDER_TOKEN_FILE=str(token))
        assert (done.returncode, done.stderr) == (0, "")
        expected = "the market stands still, pace 9/s; 5 ticks sent, 2025-10-01 09:30:02\n"
        assert done.stdout == expected
        assert (
            '"tick": 5'
            in replay(market.control_port, "status", "--json", ORDER_TOKEN_FILE=str(token)).stdout
        )
        refused = replay(market.control_port, "step")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "the first frame must be AUTH|token (ORDER_TOKEN_FILE)" in refused.stderr
        wrong = replay(market.control_port, "speed", "fast", ORDER_TOKEN_FILE=str(token))
        assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
        assert wrong.stderr.startswith("replay: BAD_REQUEST: pace=fast: must be max")
        other = replay(market.price_port, "status")
        assert other.returncode == 1
        assert "Traceback" not in other.stderr
        with WireClient(market.price_port):
            pass


@pytest.mark.medium
def test_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    done = replay(port, "pause")
    assert done.returncode == 1
    assert done.stderr.startswith(f"replay: no answer from the gateway on 127.0.0.1:{port}: ")


def test_each_subcommand_is_a_request() -> None:
    assert set(SUBCOMMANDS) == {"status", "pause", "resume", "step", "speed", "seek"}
