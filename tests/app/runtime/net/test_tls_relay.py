"""The relay between a TLS connection and the plain socket of its owner."""

import contextlib
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import pytest

from app.runtime.net.tls_relay import TlsRelay
from tests.support.certificates import Certificate, make_certificate
from tests.support.children import eventually, open_files


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificates"))


class Ends(NamedTuple):
    """Both ends of an encrypted connection, and the relay between them."""

    relay: TlsRelay
    owner: socket.socket
    peer: ssl.SSLSocket
    raw: int


@contextlib.contextmanager
def connection(certificate: Certificate, version: ssl.TLSVersion) -> Iterator[Ends]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    trusting = ssl.create_default_context(cafile=certificate.cert)
    trusting.maximum_version = version
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    relay = TlsRelay()
    owner = relay.adopt(accepted, context)
    owner.settimeout(10)
    client.settimeout(10)
    peer = trusting.wrap_socket(client, server_hostname="localhost")
    try:
        yield Ends(relay, owner, peer, peer.fileno())
    finally:
        owner.close()
        peer.close()
        relay.close()


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def ends(certificate: Certificate, request: pytest.FixtureRequest) -> Iterator[Ends]:
    with connection(certificate, request.param) as found:
        yield found


def read_all(source: socket.socket, pause_s: float = 0.0, piece: int = 65536) -> bytes:
    parts = []
    while data := source.recv(piece):
        parts.append(data)
        time.sleep(pause_s)
    return b"".join(parts)


def test_the_handshake_is_reported_once(ends: Ends) -> None:
    select.select([ends.relay.event_descriptor], [], [], 10)
    assert ends.relay.take_handshakes() == [(ends.owner, None)]
    assert ends.relay.take_handshakes() == []
    assert not select.select([ends.relay.event_descriptor], [], [], 0)[0]


def test_a_connection_that_cannot_be_taken_stays_with_its_owner(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Released only when nothing can fail any more, and no descriptor is lost."""
    released: list[bool] = []
    relay = TlsRelay()
    client, accepted = socket.socketpair()
    try:
        before = open_files()
        with pytest.raises(ValueError, match="server_hostname"):
            relay.adopt(
                accepted,
                ssl.create_default_context(cafile=certificate.cert),
                "",
                release=lambda: released.append(True),
            )
        assert (released, open_files()) == ([], before)
        client.sendall(b"still here")
        assert accepted.recv(100) == b"still here"
    finally:
        client.close()
        accepted.close()
        relay.close()


def test_both_directions_at_once_and_both_ends_of_stream(ends: Ends) -> None:
    down, up = os.urandom(3_000_000), os.urandom(2_000_000)
    got: dict[str, bytes] = {}

    def owner_sends() -> None:
        ends.owner.sendall(down)
        ends.owner.shutdown(socket.SHUT_WR)

    def owner_reads() -> None:
        got["up"] = read_all(ends.owner)

    threads = [threading.Thread(target=work) for work in (owner_sends, owner_reads)]
    for thread in threads:
        thread.start()
    sent = 0
    down_parts = b""
    ends.peer.setblocking(False)
    while len(down_parts) < len(down) or sent < len(up):
        progress = False
        with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            down_parts += ends.peer.recv(65536)
            progress = True
        if sent < len(up):
            with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                sent += ends.peer.send(up[sent : sent + 16384])
                progress = True
        if not progress:
            select.select([ends.peer], [], [], 0.01)
    ends.peer.settimeout(10)
    assert down_parts == down
    assert ends.peer.recv(10) == b"", "the owner's end of stream"
    ends.peer.close()
    for thread in threads:
        thread.join(10)
    assert got["up"] == up


def test_a_peer_that_does_not_read_holds_the_owner_back(ends: Ends) -> None:
    ends.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    ends.owner.setblocking(False)
    data, taken = os.urandom(1 << 16) * 256, 0  # 16 MiB
    with suppress(BlockingIOError):
        while taken < len(data):
            taken += ends.owner.send(data[taken : taken + 65536])
            time.sleep(0.001)
    assert 0 < taken < len(data) // 2
    ends.owner.setblocking(True)
    rest = threading.Thread(target=lambda: (ends.owner.sendall(data[taken:]), ends.owner.close()))
    rest.start()
    assert read_all(ends.peer) == data, "also what was sent before the owner closed its end"
    rest.join(10)


@pytest.mark.parametrize("how", ["owner closes", "peer closes", "peer resets"])
def test_an_end_that_closes_closes_the_other_and_leaves_no_descriptor(
    certificate: Certificate, how: str
) -> None:
    before = open_files()
    with connection(certificate, ssl.TLSVersion.TLSv1_3) as ends:
        ends.peer.sendall(b"hello")
        assert ends.owner.recv(10) == b"hello"
        if how == "owner closes":
            ends.owner.close()
            with suppress(ConnectionError):
                assert ends.peer.recv(10) == b""
        else:
            if how == "peer resets":
                linger = b"\1\0\0\0\0\0\0\0"
                ends.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            ends.peer.close()
            assert ends.owner.recv(10) == b""
            with suppress(BrokenPipeError, ConnectionError):
                ends.owner.send(b"x")
                ends.owner.close()
        eventually(lambda: not ends.relay._by_fd, "the relay has no connection left")
    assert open_files() == before


def test_an_idle_relay_sleeps(ends: Ends) -> None:
    """Also with connections one side of which has ended: no event is left to spin on."""
    ends.owner.shutdown(socket.SHUT_WR)
    assert ends.peer.recv(10) == b""
    time.sleep(0.1)
    begun_s = time.process_time()
    time.sleep(0.4)
    assert time.process_time() - begun_s < 0.1


def test_no_renegotiation_and_no_old_version(certificate: Certificate) -> None:
    from app.config.settings import Settings
    from app.runtime.net.access import server_tls

    settings = Settings(order_tls_cert_file=certificate.cert, order_tls_key_file=certificate.key)
    context = server_tls(settings)
    assert context is not None
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
