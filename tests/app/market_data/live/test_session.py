"""A session with an exchange that breaks, lies, floods and refuses."""

import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.config.settings import Settings
from app.market_data.live.opening import begin_recording
from app.market_data.sources.errors import DataError
from tests.app.market_data.live.fake_exchange import FakeExchange, trade
from tests.app.market_data.live.live_session import Logged, events, sent, session, settings_of
from tests.support.certificates import make_certificate

pytestmark = pytest.mark.medium


@pytest.mark.parametrize("combined", [False, True])
def test_every_trade_that_is_sent_is_recorded(tmp_path: Path, combined: bool) -> None:
    with (
        FakeExchange(limit=1500, per_s=5000, combined=combined) as exchange,
        session(settings_of(exchange), tmp_path) as mine,
    ):
        mine.until("all", lambda: mine.feed.available == 1500)
        assert mine.ids() == sent(exchange)
        ticks = mine.feed.log.ticks(0, 1500)
        prices = [round(float(each["p"]) * 100) * 10**7 for each in exchange.sent]
        assert ticks["price"].tolist() == prices
        assert ticks["exchange_ns"].tolist() == [each["T"] * 10**6 for each in exchange.sent]
        assert (np.abs(ticks["receive_ns"] - time.time_ns()) < 60 * 10**9).all()
        assert (ticks["qty"] == 0.015).all()
        assert mine.counts["live_gaps"] == mine.counts["live_refused"] == 0


BREAKS: dict[str, tuple[Callable[[FakeExchange], None], str]] = {
    "dropped": (FakeExchange.drop, ""),
    "half a frame": (FakeExchange.half_frame, ""),
    "shut down": (FakeExchange.leave, "1001 server shutdown"),
    "no answer to pings": (FakeExchange.freeze, "ping timeout"),
    "a message of 2 MB": (lambda exchange: exchange.say("x" * (2 << 20)), "1009"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_connection_is_made_again_and_the_gap_is_counted(
    tmp_path: Path, name: str, logged: Logged
) -> None:
    act, says = BREAKS[name]
    with (
        FakeExchange(per_s=400, acts={150: act}) as exchange,
        session(settings_of(exchange), tmp_path) as mine,
    ):
        mine.until("the second connection", lambda: mine.counts["live_connects"] == 2)
        before = mine.feed.available
        mine.until("ticks of all symbols", lambda: mine.feed.available > before + 100)
        mine.until_all(exchange)
        ids = mine.ids()
        for symbol in range(3):
            own = [number for at, number in ids if at == symbol]
            assert own == sorted(set(own))
        first = {symbol: next(n for s, n in ids if s == symbol) for symbol in range(3)}
        last = dict(ids)
        whole = sum(last[symbol] - first[symbol] + 1 for symbol in range(3))
        assert len(ids) + mine.counts["live_missing"] == whole
        assert mine.counts["live_missing"] > 0
    (lost, *_) = events(logged, "live_lost")
    assert says in lost["reason"]
    assert events(logged, "live_gap")


def test_what_is_wrong_is_refused_counted_and_described_once(
    tmp_path: Path, logged: Logged
) -> None:
    now = int(time.time() * 1000)
    wrong = [
        "no json",
        '{"e":"trade","s":',
        b"\xff\xfe\x00",
        "[" * 50_000,
        *(trade("BTCUSDT", 5000, price, now) for price in ("0", "-1", "NaN", "1e99")),
        trade("DOGEUSDT", 1, "1.0", now),
        trade("BTCUSDT", 5000, "1.0", now + 3_600_000),
        trade("BTCUSDT", 5000, "1.0", now, T="soon"),
        trade("BTCUSDT", 5000, "1.0", now, t="x"),
    ]

    def lie(exchange: FakeExchange) -> None:
        for each in wrong:
            exchange.say(json.dumps(each) if isinstance(each, dict) else each)

    with (
        FakeExchange(limit=400, acts={100: lie}) as exchange,
        session(settings_of(exchange), tmp_path) as mine,
    ):
        mine.until("all", lambda: mine.feed.available == 400)
        mine.until("counted", lambda: mine.counts["live_refused"] == len(wrong))
        assert mine.ids() == sent(exchange)
        assert mine.counts["live_connects"] == 1
        assert mine.counts["live_gaps"] == 0
    assert 1 <= len(events(logged, "live_refused")) <= 3
    assert sum(line["trades"] for line in events(logged, "live_refused")) == len(wrong)
    assert all(len(str(line)) < 600 for line in logged)


def test_repeated_and_late_trades_and_times(tmp_path: Path, logged: Logged) -> None:
    def again(exchange: FakeExchange) -> None:
        for each in exchange.sent[-20:]:
            exchange.say(json.dumps(each))

    with (
        FakeExchange(limit=300, acts={200: again}) as exchange,
        session(settings_of(exchange), tmp_path) as mine,
    ):
        mine.until("all", lambda: mine.feed.available == 300)
        assert mine.counts["live_repeated"] == 20
        assert mine.ids() == sent(exchange)

    def back(exchange: FakeExchange) -> None:
        found = next(exchange.trades)
        exchange.say(json.dumps(found | {"T": found["T"] - 5000}))

    other = tmp_path / "other"
    with (
        FakeExchange(limit=300, acts={200: back}) as exchange,
        session(settings_of(exchange), other) as mine,
    ):
        mine.until("all", lambda: mine.feed.available == 301)
        ticks = mine.feed.log.ticks(0, 301)
        assert mine.counts["live_late"] == 1
        assert (np.diff(ticks["event_ns"]) >= 0).all()
        assert (np.diff(ticks["exchange_ns"]) < 0).sum() == 1


def test_gaps_that_never_end_do_not_fill_the_log(tmp_path: Path, logged: Logged) -> None:
    acts = {at: (lambda exchange: exchange.skip(2)) for at in range(0, 1000, 2)}
    with (
        FakeExchange(limit=1000, acts=acts) as exchange,
        session(settings_of(exchange), tmp_path) as mine,
    ):
        mine.until("all", lambda: mine.feed.available == 1000)
        assert mine.counts["live_gaps"] > 200
    assert 1 <= len(events(logged, "live_gap")) <= 5


def test_an_exchange_that_refuses_is_left_in_peace(tmp_path: Path, logged: Logged) -> None:
    with FakeExchange(limit=100) as exchange:
        exchange.refuse_with = [(503, {}), (503, {}), (429, {"Retry-After": "1"})]
        began_s = time.monotonic()
        with session(settings_of(exchange), tmp_path) as mine:
            mine.until("all", lambda: mine.feed.available == 100)
        assert time.monotonic() - began_s > 1.0
        assert len(exchange.requests) == 4
    reasons = [line["reason"] for line in events(logged, "live_lost")]
    assert "refused by the exchange: HTTP 503 Service Unavailable" in reasons[0]
    assert "HTTP 429" in reasons[-1]
    last = events(logged, "live_lost")[-1]
    assert last["lost_s"] + last["next_try_s"] >= 1.0
    (connected,) = events(logged, "live_connected")
    assert connected["attempts"] == 3
    assert connected["lost_s"] >= 1.0


def test_a_server_that_is_not_there(tmp_path: Path, logged: Logged) -> None:
    with FakeExchange(limit=50) as exchange:
        nowhere = settings_of(exchange, data_path="ws://127.0.0.1:9/ws")
        with session(nowhere, tmp_path) as mine:
            mine.until("said", lambda: events(logged, "live_lost"))
            assert not mine.session.flows
    assert "Connect" in events(logged, "live_lost")[0]["reason"]


def test_compression_is_not_offered(tmp_path: Path) -> None:
    """What is compressed may be a thousand times as large."""
    with FakeExchange(limit=10) as exchange, session(settings_of(exchange), tmp_path) as mine:
        mine.until("all", lambda: mine.feed.available == 10)
        (headers,) = exchange.headers
        assert "Sec-WebSocket-Extensions" not in headers


# ---- TLS


def server_tls(cert: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert.cert, cert.key)
    return context


def test_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    cert = make_certificate(tmp_path)
    with FakeExchange(limit=50, tls=server_tls(cert)) as exchange:
        assert exchange.url.startswith("wss://")
        with session(settings_of(exchange, live_ca_file=cert.cert), tmp_path) as mine:
            mine.until("all", lambda: mine.feed.available == 50)


@pytest.mark.parametrize(
    ("names", "trusted", "says"),
    [
        ("IP:127.0.0.1", False, "self-signed certificate"),
        ("DNS:elsewhere.example", True, "IP address mismatch"),
    ],
)
def test_a_certificate_that_is_not_believed(
    tmp_path: Path, names: str, trusted: bool, says: str, logged: Logged
) -> None:
    cert = make_certificate(tmp_path, names=names)
    with FakeExchange(limit=50, tls=server_tls(cert)) as exchange:
        settings = settings_of(exchange, live_ca_file=cert.cert if trusted else "")
        with session(settings, tmp_path) as mine:
            mine.until("said", lambda: events(logged, "live_lost"))
            assert mine.feed.available == 0
        assert not exchange.requests
    assert says in events(logged, "live_lost")[0]["reason"]


def test_a_server_that_speaks_no_tls(tmp_path: Path, logged: Logged) -> None:
    with FakeExchange(limit=50) as exchange:
        settings = settings_of(exchange, data_path=exchange.url.replace("ws:", "wss:"))
        with session(settings, tmp_path) as mine:
            mine.until("said", lambda: events(logged, "live_lost"))
            assert mine.feed.available == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"live_symbols": "A*"}, r"LIVE_SYMBOLS=A\*: A\*: symbol with a delimiter"),
        ({"live_map": "nasdaq"}, "LIVE_MAP=nasdaq: nasdaq: must be binance"),
        ({"live_ca_file": "/nowhere.pem"}, "LIVE_CA_FILE=/nowhere.pem: no such file"),
    ],
)
def test_wrong_settings_are_refused_at_the_start(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    values: dict[str, Any] = {"data_path": "ws://x/ws", "live_symbols": "A"}
    with pytest.raises(DataError, match=says):
        begin_recording(Settings(**values | changes), tmp_path / "run.ticks")


@pytest.mark.parametrize(
    "address",
    [
        "wss://me@host/ws?token=SECRET",  # no password: refused
        "wss://host/ws#SECRET",
        "wss://me:SECRET/x@host/ws",
        "wss://[SECRET/ws",
    ],
)
def test_why_an_address_is_unusable_shows_no_secret(
    tmp_path: Path, address: str, logged: Logged
) -> None:
    with session(Settings(data_path=address, live_symbols="A"), tmp_path) as mine:
        mine.until("said", lambda: events(logged, "live_lost"))
    (lost,) = events(logged, "live_lost")
    assert lost["reason"].startswith("unusable address")
    assert "SECRET" not in str(logged)
    assert b"SECRET" not in (tmp_path / "run.ticks").read_bytes()
