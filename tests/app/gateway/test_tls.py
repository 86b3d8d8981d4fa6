"""Readers over TLS: the same stream as on plain TCP, and nothing that they do delays the others."""

import os
import socket
import ssl
import threading
import time
from contextlib import ExitStack, suppress
from errno import EMFILE
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.config.settings import Settings
from app.gateway import door
from app.market_data.feed import Feed
from app.model.wire.feed_protocol import encode_auth
from tests.support.certificates import Certificate, make_certificate
from tests.support.feed_helpers import (
    PROVEN,
    SYMBOLS_FRAME,
    Running,
    WireClient,
    all_ticks,
    make_feed,
    make_settings,
    running,
    ticks_bytes,
    wait_until,
    write_ticks,
)

pytestmark = pytest.mark.medium

TOKEN = "correct-horse-battery-staple"
SHOWN = encode_auth(TOKEN.encode())
PORTS = pytest.mark.parametrize("port", ["price_port", "sentiment_port"])
NEEDS_TLS = b"REFUSED|TLS is needed: connect with TLS"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return str(path)


def tls_settings(certificate: Certificate, token_file: str = "", **changes: object) -> Settings:
    return make_settings(
        order_tls_cert_file=certificate.cert,
        order_tls_key_file=certificate.key,
        order_token_file=token_file,
        **changes,
    )


def settled(gateway: Running) -> bool:
    """Nobody is at the door, and no handshake is under way."""
    at_door = gateway.server._handshake.door
    assert at_door is not None
    return len(at_door) == 0 and not at_door._handshakes


@pytest.mark.parametrize("pace", ["max", "2000/s"])
@pytest.mark.parametrize("hello", [b"", b"RUN*BEAT*RESUME|0*"])
def test_a_reader_gets_every_tick_and_the_end(
    feed: Feed, certificate: Certificate, token_file: str, pace: str, hello: bytes
) -> None:
    settings = tls_settings(certificate, token_file, pace=pace)
    with (
        running(feed, settings) as gateway,
        WireClient(gateway.price_port, SHOWN + hello, trusted=certificate.cert) as reader,
    ):
        data = reader.read_to_end()
    assert data.startswith(SYMBOLS_FRAME)
    ticks = b"".join(f + b"*" for f in data.split(b"*") if f and b"|" not in f)
    assert ticks == all_ticks(feed)


def test_a_slow_reader_gets_every_byte(
    tmp_path: Path, certificate: Certificate, token_file: str
) -> None:
    """Its socket is full again and again, in the middle of records and of frames."""
    feed = make_feed(write_ticks(tmp_path / "big.csv", 200_000))
    settings = tls_settings(certificate, token_file)
    with (
        running(feed, settings) as gateway,
        WireClient(
            gateway.price_port,
            SHOWN + b"BEAT*RESUME|0*",
            trusted=certificate.cert,
            receive_buffer=4096,
        ) as slow,
    ):
        for _ in range(30):
            slow.data += slow.socket.recv(1 << 14)
            time.sleep(0.02)
        data = slow.read_to_end().partition(b"SEQ|0*")[2]
    assert b"".join(f + b"*" for f in data.split(b"*") if f and b"|" not in f) == all_ticks(feed)
    assert data.endswith(b"END|200000*")


def test_a_plain_reader_that_stalls_is_dropped_also_over_tls(
    tmp_path: Path, certificate: Certificate
) -> None:
    feed = make_feed(write_ticks(tmp_path / "big.csv", 400_000))
    settings = tls_settings(
        certificate,
        price_subscribers=2,
        client_buffer_limit_bytes=100_000,
        client_stall_timeout_s=0.2,
    )
    with running(feed, settings) as gateway:
        stalled = WireClient(gateway.price_port, trusted=certificate.cert, receive_buffer=4096)
        with stalled, WireClient(gateway.price_port, PROVEN + b"RESUME|0*") as reader:
            assert reader.read_to_end().endswith(b"END|400000*")
            wait_until(lambda: gateway.server.sessions.dropped == 1, "one client dropped")
            with suppress(OSError):
                stalled.read_to_end()
            assert len(stalled.data) < len(all_ticks(feed)) - 100_000


@PORTS
@pytest.mark.parametrize("hello", [SHOWN, b"RUN*", b"RESUME|0*", b"PROOF|00*RESUME|0*"])
def test_a_plain_client_is_told_that_tls_is_needed(
    feed: Feed, certificate: Certificate, token_file: str, port: str, hello: bytes
) -> None:
    with (
        capture_logs() as logs,
        running(feed, tls_settings(certificate, token_file)) as gateway,
        WireClient(getattr(gateway, port), hello) as client,
    ):
        assert client.read_to_end().startswith(NEEDS_TLS)
    lines = [line["reason"] for line in logs if line["event"] == "client_refused"]
    assert len(lines) == 1
    assert lines[0].startswith("TLS is needed")


@PORTS
def test_the_stack_and_pings_stay_on_plain_tcp(
    feed: Feed, certificate: Certificate, token_file: str, port: str
) -> None:
    settings = tls_settings(certificate, token_file, price_subscribers=9)
    with running(feed, settings) as gateway:
        with WireClient(getattr(gateway, port), PROVEN + b"RUN*RESUME|0*") as ours:
            ours.read_until(lambda data: b"SEQ|0*" in data)
        with WireClient(getattr(gateway, port), b"PING*") as ping:
            assert ping.read_to_end() == b"PONG*"


def test_a_wrong_token_over_tls_is_refused_with_the_reason(
    feed: Feed, certificate: Certificate, token_file: str
) -> None:
    with (
        running(feed, tls_settings(certificate, token_file)) as gateway,
        WireClient(gateway.price_port, b"AUTH|no*", trusted=certificate.cert) as client,
    ):
        assert client.read_to_end().startswith(b"REFUSED|wrong token")


def test_tls_without_a_token(feed: Feed, certificate: Certificate) -> None:
    """A reader that sends nothing starts with the end of its handshake, not before it."""
    with running(feed, tls_settings(certificate)) as gateway:
        with WireClient(gateway.price_port) as unfinished:
            unfinished.socket.sendall(b"\x16\x03\x01\x02\x00")
            with WireClient(gateway.price_port, b"RUN*") as plain:
                assert plain.read_to_end().startswith(NEEDS_TLS)
            time.sleep(0.2)
            assert gateway.server.prices.released == 0
            assert not gateway.server.prices.subscribers
        with WireClient(gateway.price_port, trusted=certificate.cert) as reader:
            assert reader.read_to_end() == SYMBOLS_FRAME + all_ticks(feed)


@pytest.mark.parametrize("trusted", [True, False])
def test_where_anybody_may_read_both_kinds_of_clients_are_served(
    feed: Feed, certificate: Certificate, token_file: str, trusted: bool
) -> None:
    settings = tls_settings(certificate, token_file, publish_feed_open=True)
    trust = certificate.cert if trusted else ""
    for hello in (b"", SHOWN, b"RESUME|0*"):
        with (
            running(feed, settings) as gateway,
            WireClient(gateway.price_port, hello, trusted=trust) as reader,
        ):
            data = reader.read_to_end()
            assert data.startswith(SYMBOLS_FRAME)
            assert all_ticks(feed) in data


def test_a_failed_handshake_is_logged_and_leaves_nothing(
    feed: Feed, certificate: Certificate, token_file: str, tmp_path: Path
) -> None:
    stranger = make_certificate(tmp_path, "stranger")
    with running(feed, tls_settings(certificate, token_file)) as gateway:
        with capture_logs() as logs:
            with pytest.raises(ssl.SSLCertVerificationError):
                WireClient(gateway.price_port, trusted=stranger.cert)
            with WireClient(gateway.price_port, b"\x16junk" * 100) as junk, suppress(OSError):
                junk.read_to_end()
            wait_until(lambda: settled(gateway), "both gone")
        assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
            "tls_failed"
        ] * 2
        relay = gateway.server._handshake.door.relay  # type: ignore[union-attr]
        wait_until(lambda: not relay._by_fd, "no connection left in the relay")  # type: ignore[union-attr]


def test_unfinished_handshakes_are_bounded_in_number_and_time(
    feed: Feed, certificate: Certificate, token_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "TOKEN_S", 1.0)
    monkeypatch.setattr(door, "HANDSHAKES_MAX", 20)
    with running(feed, tls_settings(certificate, token_file)) as gateway, ExitStack() as crowd:
        at_door = gateway.server._handshake.door
        assert at_door is not None
        for number in range(50):
            client = WireClient(gateway.price_port, b"\x16\x03\x01", source=f"127.0.1.{number + 1}")
            crowd.enter_context(client)
        wait_until(lambda: gateway.server.sessions.dropped >= 30, "those above the limit are gone")
        assert len(at_door._handshakes) <= 20
        with WireClient(gateway.price_port, SHOWN, trusted=certificate.cert) as reader:
            assert reader.read_to_end() == SYMBOLS_FRAME + all_ticks(feed)
        wait_until(lambda: settled(gateway), "no handshake is left after the deadline")


def test_a_tls_client_without_descriptors_for_it_is_turned_away(
    feed: Feed, certificate: Certificate, token_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> None:
        raise OSError(EMFILE, os.strerror(EMFILE))

    with running(feed, tls_settings(certificate, token_file)) as gateway, capture_logs() as logs:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socketpair", none_left)
            for _ in range(3):
                with WireClient(gateway.price_port, b"\x16\x03\x01") as client:
                    assert client.read_to_end() == b"REFUSED|no TLS now: Too many open files*"
        with WireClient(gateway.price_port, SHOWN, trusted=certificate.cert) as reader:
            assert reader.read_to_end() == SYMBOLS_FRAME + all_ticks(feed)
        wait_until(lambda: len(gateway.server.sessions) == 0, "nobody is left")
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["tls_failed"] * 3


class _Handshakes(threading.Thread):
    """Handshakes without end, one after another; each costs the gateway a signature."""

    def __init__(self, port: int, number: int, trusted: str) -> None:
        super().__init__(daemon=True)
        self._address, self._source = ("127.0.0.1", port), (f"127.0.2.{number}", 0)
        self._context = ssl.create_default_context(cafile=trusted)
        self.done = 0
        self.stopped = False

    def run(self) -> None:
        while not self.stopped:
            with (
                suppress(OSError),
                socket.create_connection(self._address, 5, self._source) as plain,
                self._context.wrap_socket(plain, server_hostname="localhost"),
            ):
                self.done += 1


def test_handshakes_and_slow_tls_readers_do_not_delay_the_stack(
    path: Path, certificate: Certificate, token_file: str
) -> None:
    """Ticks 2 ms apart keep their pace for a client of the stack, whatever TLS clients do."""
    feed = make_feed(path, replay="walk")
    settings = tls_settings(certificate, token_file, pace="500/s", replay="walk")
    with running(feed, settings) as gateway, ExitStack() as clients:
        for number in range(5):
            slow = WireClient(
                gateway.price_port,
                SHOWN + b"RESUME|0*",
                trusted=certificate.cert,
                receive_buffer=4096,
            )
            clients.enter_context(slow)
            half = WireClient(
                gateway.price_port, b"\x16\x03\x01\x02", source=f"127.0.3.{number + 1}"
            )
            clients.enter_context(half)
        handshakes = [_Handshakes(gateway.price_port, n, certificate.cert) for n in (1, 2)]
        for each in handshakes:
            each.start()
        with WireClient(gateway.price_port, PROVEN + b"RESUME|0*") as ours:
            ours.read_until(lambda data: data.count(b"*") > 3 * 50)
            begun_s, before = time.monotonic(), ours.data.count(b"*")
            ours.read_until(lambda data: data.count(b"*") >= before + 3 * 1000)
            took_s = time.monotonic() - begun_s
        for each in handshakes:
            each.stopped = True
            each.join(10)
        head = ours.data.index(b"SEQ|0*") + len(b"SEQ|0*")
        count = ours.data[head:].count(b"*") // 3
        assert ours.data[head:].startswith(ticks_bytes(feed, 0, count))
        # 1000 ticks are two seconds.
        assert took_s < 4
        assert all(each.done > 20 for each in handshakes)
