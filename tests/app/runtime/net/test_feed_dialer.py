"""Readers of the feed on another machine: token and TLS, against real gateways; and of the stack.

127.0.0.1 is this host, where TLS is not insisted on.  A name with the same address that is not
known as loopback stands for another machine.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.config.settings import Settings, SettingsError
from app.market_data.feed import Feed
from app.runtime.net import feed_dialer
from app.runtime.net.feed_client import FeedClosed, FeedConnection, FeedRefused
from app.runtime.net.feed_dialer import FeedDialer
from tests.support.certificates import Certificate, make_certificate
from tests.support.fake_servers import Connection, FakeServer
from tests.support.feed_helpers import (
    PROOF,
    Running,
    all_ticks,
    make_feed,
    make_settings,
    running,
    write_ticks,
)

TOKEN = "correct-horse-battery-staple"
OTHER_PROOF = PROOF[::-1]
TICK = b"2025-10-01 09:30:00*A*1.5*"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return make_feed(write_ticks(tmp_path / "feed.csv", 300))


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return str(path)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """This host counts as another machine."""
    monkeypatch.setattr(feed_dialer, "is_loopback", lambda _host: False)


@contextmanager
def gateway_with(
    feed: Feed, certificate: Certificate | None, **settings: object
) -> Iterator[Running]:
    if certificate is not None:
        settings |= {
            "order_tls_cert_file": certificate.cert,
            "order_tls_key_file": certificate.key,
        }
    with running(feed, make_settings(**settings)) as gateway:
        yield gateway


def dialer(gateway: Running, **settings: object) -> FeedDialer:
    ports = {"price_port": gateway.price_port, "sentiment_port": gateway.sentiment_port}
    return FeedDialer(Settings(gateway_host="localhost", **ports, **settings))  # type: ignore[arg-type]


def read(feed: FeedConnection) -> bytes:
    """Everything up to the end of the stream."""
    data = b""
    try:
        while True:
            data += bytes(feed.buffer[: feed.fill])
            feed.consume(feed.fill)
            feed.receive()
    except FeedClosed:
        return data
    finally:
        feed.close()


def without_beats(data: bytes) -> bytes:
    return b"".join(f + b"*" for f in data.split(b"*") if f and not f.startswith(b"BEAT|"))


def test_with_token_and_tls_a_reader_elsewhere_gets_the_stream(
    feed: Feed, certificate: Certificate, token_file: str, elsewhere: None
) -> None:
    with gateway_with(feed, certificate, order_token_file=token_file) as gateway:
        reader = dialer(gateway, order_token_file=token_file, order_tls_ca_file=certificate.cert)
        threads = threading.active_count()
        for seq in (0, 100):
            connection = reader.prices(seq, OTHER_PROOF, must_be_sequenced=True)
            assert (connection.symbols, connection.sequenced) == (["AAPL", "MSFT", "F"], True)
            data = without_beats(read(connection))
            assert data.endswith(b"END|300*")
            assert all_ticks(feed).endswith(data.removesuffix(b"END|300*"))
        assert threading.active_count() == threads, "a connection leaves no thread behind"
        connection = reader.sentiment(0, OTHER_PROOF)
        assert read(connection).endswith(b"END|300*")


def test_with_a_token_alone(feed: Feed, token_file: str) -> None:
    with gateway_with(feed, None, order_token_file=token_file) as gateway:
        data = read(dialer(gateway, order_token_file=token_file).prices(0, OTHER_PROOF))
        assert without_beats(data) == all_ticks(feed) + b"END|300*"
        with pytest.raises(FeedRefused, match="the first frame must be AUTH"):
            dialer(gateway).prices(0, OTHER_PROOF)


def test_a_token_file_that_is_being_changed_is_read_again_later(
    feed: Feed, token_file: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine"
    file.write_text("short")
    with gateway_with(feed, None, order_token_file=token_file) as gateway:
        reader = dialer(gateway, order_token_file=str(file))
        with pytest.raises(SettingsError):
            reader.prices(0, OTHER_PROOF)
        file.write_text(TOKEN)
        reader.prices(0, OTHER_PROOF).close()
        file.write_text("short")
        with pytest.raises(FeedClosed, match="a token of"):
            reader.prices(0, OTHER_PROOF)
        file.write_text(TOKEN)
        reader.prices(0, OTHER_PROOF).close()


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_wrong_token_says_so(
    feed: Feed, certificate: Certificate, token_file: str, tmp_path: Path, encrypted: bool
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong-horse-battery-staple")
    tls = {"order_tls_ca_file": certificate.cert} if encrypted else {}
    with gateway_with(
        feed, certificate if encrypted else None, order_token_file=token_file
    ) as gateway:
        reader = dialer(gateway, order_token_file=str(wrong), **tls)
        with pytest.raises(FeedRefused, match="wrong token"):
            reader.prices(0, OTHER_PROOF)


def test_a_process_of_the_stack_reads_neither_token_nor_certificate(
    feed: Feed, certificate: Certificate, token_file: str, elsewhere: None
) -> None:
    """As the orderbook's container, whether it may read the files or not."""
    with gateway_with(feed, certificate, order_token_file=token_file) as gateway:
        ours = dialer(gateway, order_token_file="no/token", order_tls_ca_file="no/cert")
        for connection in (ours.prices(0, PROOF), ours.sentiment(0, PROOF)):
            assert connection._relay is None, "plain TCP"
            connection.close()
        with pytest.raises(SettingsError, match="no/token"):
            ours.prices(0, OTHER_PROOF)


def test_on_this_host_the_gateway_is_not_asked_first(feed: Feed, certificate: Certificate) -> None:
    """One round trip less, and an original gateway may serve a stack that has TLS for orders."""

    def plain(connection: Connection) -> None:
        connection.send(b"SYMBOLS|A*" + TICK)
        while connection.frame():
            pass

    with FakeServer(plain) as server:
        settings = Settings(price_port=server.port, order_tls_ca_file=certificate.cert)
        connection = FeedDialer(settings).prices(0, PROOF)
        assert (connection.symbols, connection.sequenced) == (["A"], False)
        connection.close()


@pytest.mark.parametrize(
    "said",
    [
        b"SYMBOLS|A*" + TICK * 3,
        b"WHO|" + b"0" * 64 + b"*SYMBOLS|A*",
        b"WHO|*",
        b"REFUSED|TLS is needed*",
    ],
)
def test_whoever_sits_on_the_way_cannot_switch_tls_off_nor_learn_the_proof(
    certificate: Certificate, elsewhere: None, said: bytes
) -> None:
    heard: list[bytes] = []

    def liar(connection: Connection) -> None:
        heard.append(connection.frame())
        connection.send(said)
        connection.finish()

    with FakeServer(liar) as server:
        settings = Settings(
            gateway_host="localhost", price_port=server.port, order_tls_ca_file=certificate.cert
        )
        with pytest.raises(FeedClosed):
            FeedDialer(settings).prices(0, PROOF)
    assert heard[0].startswith(b"WHO|")
    assert not any(PROOF.encode() in frame for frame in heard)
    assert b"\x16\x03" in heard[1][:2], "then it speaks TLS"


def test_a_silent_gateway_is_no_reason_to_show_the_token(
    certificate: Certificate, elsewhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.runtime.net.feed_client.HELLO_TIMEOUT_S", 0.3)

    def stopped(connection: Connection) -> None:
        connection.frame()
        time.sleep(1)

    with FakeServer(stopped) as server:
        settings = Settings(
            gateway_host="localhost", price_port=server.port, order_tls_ca_file=certificate.cert
        )
        with pytest.raises(FeedClosed, match="no answer within"):
            FeedDialer(settings).prices(0, PROOF)
        assert server.connections == 1


def test_a_certificate_that_is_not_trusted_names_the_setting(
    feed: Feed, certificate: Certificate, token_file: str, tmp_path: Path, elsewhere: None
) -> None:
    stranger = make_certificate(tmp_path, "stranger")
    with gateway_with(feed, certificate, order_token_file=token_file) as gateway:
        reader = dialer(gateway, order_token_file=token_file, order_tls_ca_file=stranger.cert)
        with pytest.raises(FeedClosed, match=f"ORDER_TLS_CA_FILE={stranger.cert} must hold it"):
            reader.prices(0, OTHER_PROOF)
    named = make_certificate(tmp_path, "named", "DNS:prices.example")
    with gateway_with(feed, named, order_token_file=token_file) as gateway:
        reader = dialer(gateway, order_token_file=token_file, order_tls_ca_file=named.cert)
        with pytest.raises(FeedClosed, match=r"for prices\.example, not for localhost") as raised:
            reader.prices(0, OTHER_PROOF)
    assert "set GATEWAY_HOST to a name of the certificate" in str(raised.value)


def test_an_open_gateway_serves_a_reader_with_credentials(
    feed: Feed, certificate: Certificate, token_file: str, elsewhere: None
) -> None:
    with gateway_with(
        feed, certificate, order_token_file=token_file, publish_feed_open=True
    ) as gateway:
        reader = dialer(gateway, order_token_file=token_file, order_tls_ca_file=certificate.cert)
        connection = reader.prices(0, OTHER_PROOF)
        assert connection._relay is not None, "encrypted"
        assert without_beats(read(connection)) == all_ticks(feed) + b"END|300*"
