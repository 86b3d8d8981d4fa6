"""Tokens, TLS, other protocols: refused clients are logged once and counted; others go on."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.config.settings import Settings, SettingsError
from app.model.wire.order_json import encode_order
from app.runtime.net.access import (
    auth_frame,
    connect_orders,
    read_token,
    require_token_if_published,
    why_not_trusted,
)
from app.runtime.net.order_client import EncodedOrder, OrderClient
from tests.support.orders.frames import ORDER
from tests.support.orders.process import Client, OrderManagerProcess
from tests.support.orders.server import running
from tests.support.paths import ROOT

TOKEN = "correct-horse-battery-staple"


@pytest.fixture
def folder_for_all() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own belong to one user."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return str(path)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[str, str]]:
    folder = tmp_path_factory.mktemp("certificates")

    def make(name: str, names: str = "IP:127.0.0.1,DNS:localhost") -> tuple[str, str]:
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        if not cert.exists():
            command = ["openssl", "req", "-x509"]
            command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
            command += ["-nodes", "-days", "2", "-subj", f"/CN={name}", "-out", str(cert)]
            command += ["-keyout", str(key), "-addext", f"subjectAltName={names}"]
            subprocess.run(command, check=True, capture_output=True)
        return str(cert), str(key)

    return make


def test_right_token(tmp_path: Path, token_file: str) -> None:
    with running(tmp_path, order_token_file=token_file) as server, server.client() as client:
        assert client.ask({"op": "auth", "token": TOKEN}) == {"ok": True, "role": "stack"}
        assert client.ask(ORDER)["ok"] is True


def test_token_and_orders_in_one_packet(tmp_path: Path, token_file: str) -> None:
    with running(tmp_path, order_token_file=token_file) as server, server.client() as client:
        order = b'{"side":"BUY","symbol":"AAPL","qty":1,"price":1}*'
        client.send(auth_frame(TOKEN.encode()) + order * 3)
        assert [client.read()["ok"] for _ in range(4)] == [True] * 4


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ({"op": "auth", "token": "wrong-horse-battery-staple"}, "BAD_TOKEN"),
        ({"op": "auth", "token": TOKEN + "x"}, "BAD_TOKEN"),
        ({"op": "auth", "token": ""}, "BAD_TOKEN"),
        ({"op": "auth", "token": "\u00e9\u00e9"}, "BAD_TOKEN"),
        (ORDER, "AUTH_REQUIRED"),
        ({"op": "positions"}, "AUTH_REQUIRED"),
        ({"op": "halt", "kill": True}, "AUTH_REQUIRED"),
        ({"op": "auth"}, "AUTH_REQUIRED"),
        (b"junk*", "AUTH_REQUIRED"),
        (b"\xff\xfe*", "BAD_UTF8"),
    ],
)
def test_wrong_or_missing_token(tmp_path: Path, token_file: str, first: Any, code: str) -> None:
    with running(tmp_path, order_token_file=token_file) as server, server.client() as client:
        client.send(first)
        client.send(ORDER)
        answer = client.read()
        assert (answer["ok"], answer["code"]) == (False, code)
        assert client.closed(), "later frames are not processed"
        with server.client() as good:
            good.ask({"op": "auth", "token": TOKEN})
            assert good.ask({"op": "orders", "open": False})["orders"] == []


def test_refusals_are_logged_once_and_counted(tmp_path: Path, token_file: str) -> None:
    Path(token_file).chmod(0o644)
    with OrderManagerProcess(tmp_path, order_token_file=token_file) as manager:
        for _ in range(3):
            with manager.client() as client:
                client.send(b'{"op":"auth","token":"guess"}*' * 5)
                assert client.read()["code"] == "BAD_TOKEN"
                assert client.closed()
        assert manager.stop() == 0
    log = manager.log()
    assert log.count("client_refused") == 3
    assert log.count("access_file_open setting=ORDER_TOKEN_FILE") == 1
    assert "guess" not in log
    assert TOKEN not in log


def test_ping_needs_no_token(tmp_path: Path, token_file: str) -> None:
    with running(tmp_path, order_token_file=token_file) as server, server.client() as client:
        assert client.ask({"op": "ping"}) == {"ok": True}
        assert client.ask({"op": "auth", "token": TOKEN})["ok"] is True
        assert client.ask(ORDER)["ok"] is True


def test_an_unneeded_token_is_accepted(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.stranger() as client:
        assert client.ask({"op": "auth", "token": "anything"}) == {"ok": True, "role": "client"}
        assert client.ask(ORDER)["ok"] is True


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({}, True),
        ({"bind_host": "0.0.0.0"}, False),
        ({"bind_host": "0.0.0.0", "order_published_host": "127.0.0.1"}, True),
        ({"bind_host": "0.0.0.0", "order_published_host": "0.0.0.0"}, False),
        ({"bind_host": "192.168.1.7"}, False),
        ({"bind_host": "0.0.0.0", "order_token_file": "some"}, True),
        ({"bind_host": "::1"}, True),
    ],
)
def test_a_published_port_needs_a_token(settings: dict[str, Any], allowed: bool) -> None:
    if allowed:
        require_token_if_published(Settings(**settings))
        return
    with pytest.raises(SettingsError, match="ORDER_TOKEN_FILE"):
        require_token_if_published(Settings(**settings))


def test_published_without_a_token_does_not_start(tmp_path: Path) -> None:
    manager = OrderManagerProcess(tmp_path, bind_host="0.0.0.0")
    with pytest.raises(AssertionError, match="ORDER_TOKEN_FILE"):
        manager.start()
    assert manager.process is not None
    assert manager.process.wait(timeout=10) == 2
    manager.__exit__(None, None, None)


def test_unusable_token_files(tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_text("abc\n")
    for path in (str(short), str(tmp_path / "none")):
        with pytest.raises(SettingsError, match="ORDER_TOKEN_FILE"):
            read_token(path)
    assert read_token("") == b""


@pytest.mark.parametrize(
    "hello",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
        b"POST /orders HTTP/1.1\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"8=FIX.4.4\x019=65\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_client_of_another_protocol(tmp_path: Path, hello: bytes) -> None:
    with running(tmp_path) as server, server.client() as other, server.stranger() as client:
        client.send(hello)
        assert client.read()["code"] == "OTHER_PROTOCOL"
        assert client.closed()
        assert other.ask(ORDER)["ok"] is True
        assert server.count("frames_bad") == 1


# TLS


class TlsClient(Client):
    """A client that trusts one certificate."""

    def __init__(self, port: int, trusted: str) -> None:
        super().__init__(port)
        context = ssl.create_default_context(cafile=trusted)
        self.sock = context.wrap_socket(self.sock, server_hostname="localhost")


def test_orders_over_tls(tmp_path: Path, certificate: Any, token_file: str) -> None:
    cert, key = certificate("good")
    settings = {
        "order_tls_cert_file": cert,
        "order_tls_key_file": key,
        "order_token_file": token_file,
    }
    with running(tmp_path, **settings) as server:
        client = TlsClient(server.port, cert)
        assert client.ask({"op": "auth", "token": TOKEN})["ok"] is True
        order = b'{"side":"BUY","symbol":"AAPL","qty":1,"price":1}*'
        client.send(order * 3000)
        assert all(client.read()["ok"] for _ in range(3000))
        client.close()
        chosen = Settings(order_port=server.port, order_manager_host="localhost", **settings)
        with connect_orders(chosen, 5.0) as connection:
            connection.sendall(order)
            assert connection.recv(65536).startswith(b'{"ok":true')


def test_plain_client_on_a_tls_port(tmp_path: Path, certificate: Any) -> None:
    cert, key = certificate("good")
    with running(tmp_path, order_tls_cert_file=cert, order_tls_key_file=key) as server:
        good = TlsClient(server.port, cert)
        with server_client(server.port) as plain:
            plain.sendall(b'{"op":"ping"}*')
            with pytest.raises((ConnectionError, AssertionError)):
                assert b"ok" in plain.recv(100)
        assert good.ask(ORDER)["ok"] is True
        good.close()


def server_client(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 5)


def test_client_that_does_not_trust_the_certificate(tmp_path: Path, certificate: Any) -> None:
    cert, key = certificate("good")
    stranger, _ = certificate("stranger")
    with running(tmp_path, order_tls_cert_file=cert, order_tls_key_file=key) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            TlsClient(server.port, stranger)
        client = TlsClient(server.port, cert)
        assert client.ask(ORDER)["ok"] is True
        client.close()
    assert server.metrics is not None


def test_tls_failures_are_logged_once_and_counted(tmp_path: Path, certificate: Any) -> None:
    cert, key = certificate("good")
    manager = OrderManagerProcess(tmp_path, order_tls_cert_file=cert, order_tls_key_file=key)
    try:
        manager.start(wait=False)
        port = manager.wait_port()
        for _ in range(2):
            with server_client(port) as plain:
                plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
                while True:
                    try:
                        if not plain.recv(100):
                            break
                    except ConnectionError:
                        break
        assert manager.stop() == 0
        assert manager.log().count("tls_failed") == 2
        assert "Traceback" not in manager.log()
    finally:
        manager.__exit__(None, None, None)


def test_an_unfinished_handshake_does_not_block_others(tmp_path: Path, certificate: Any) -> None:
    cert, key = certificate("good")
    with running(tmp_path, order_tls_cert_file=cert, order_tls_key_file=key) as server:
        silent = [server_client(server.port) for _ in range(20)]
        client = TlsClient(server.port, cert)
        assert client.ask(ORDER)["ok"] is True
        client.close()
        for sock in silent:
            sock.close()


@pytest.mark.parametrize(
    ("names", "host", "seen"),
    [
        ("DNS:orders.example,DNS:localhost", "127.0.0.1", "orders.example, localhost, not"),
        ("DNS:orders.example,IP:127.0.0.1", "localhost", "orders.example, 127.0.0.1, not"),
    ],
)
def test_a_certificate_of_another_name_says_which(
    tmp_path: Path, certificate: Any, names: str, host: str, seen: str
) -> None:
    cert, key = certificate(f"named-{host}", names)
    settings = {"order_tls_cert_file": cert, "order_tls_key_file": key}
    with running(tmp_path, **settings) as server:
        chosen = Settings(order_port=server.port, order_manager_host=host, **settings)
        with pytest.raises(ssl.SSLCertVerificationError) as raised:
            connect_orders(chosen, 5.0)
    text = str(raised.value)
    assert f"certificate is for {seen} for {host}: set ORDER_MANAGER_HOST" in text
    assert f"subjectAltName={'IP' if host[0] == '1' else 'DNS'}:{host}" in text


def test_an_untrusted_certificate_names_the_setting(tmp_path: Path, certificate: Any) -> None:
    cert, key = certificate("good")
    stranger, _ = certificate("stranger")
    with running(tmp_path, order_tls_cert_file=cert, order_tls_key_file=key) as server:
        chosen = Settings(
            order_port=server.port, order_manager_host="localhost", order_tls_ca_file=stranger
        )
        with pytest.raises(ssl.SSLCertVerificationError, match="self-signed") as raised:
            connect_orders(chosen, 5.0)
    assert f"ORDER_TLS_CA_FILE={stranger} must hold it" in str(raised.value)
    expired = raised.value.__cause__
    expired.verify_code = 10  # type: ignore[union-attr]
    assert "; make a new one (ORDER_TLS_CERT_FILE)" in why_not_trusted(expired, chosen, 5.0)


@pytest.mark.parametrize(
    "setting", ["ORDER_TOKEN_FILE", "ORDER_TLS_CERT_FILE", "ORDER_TLS_KEY_FILE"]
)
def test_a_file_that_the_process_may_not_read_says_who_may(
    folder_for_all: Path, certificate: Any, token_file: str, setting: str
) -> None:
    """As in a container, whose uid is not that of the file's owner."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to run as another user")
    names = ("ORDER_TOKEN_FILE", "ORDER_TLS_CERT_FILE", "ORDER_TLS_KEY_FILE")
    paths = (token_file, *certificate("good"))
    copies = [Path(shutil.copy(path, folder_for_all)) for path in paths]
    files = dict(zip(names, copies, strict=True))
    for path in files.values():
        path.chmod(0o644)
    files[setting].chmod(0o600)
    code = (
        "from app.config.loading import load_settings\n"
        "from app.config.settings import SettingsError\n"
        "from app.runtime.net.access import read_token, server_tls\n"
        "import os, sys\n"
        "os.setgid(10001); os.setuid(10001)\n"
        "settings = load_settings(env_file='')\n"
        "try:\n    read_token(settings.order_token_file), server_tls(settings)\n"
        "except SettingsError as error:\n    sys.exit(str(error))\n"
    )
    environ = os.environ | {name: str(path) for name, path in files.items()}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    expected = (
        f"{setting}={files[setting]}: uid 10001, gid 10001 of this process may not read it: mode "
        "0600, owner uid 0, gid 0; make it readable for this process: chown 10001 FILE, or "
        "chgrp 10001 FILE and chmod 0640 FILE"
    )
    assert done.stderr.startswith(expected)


@pytest.mark.medium
def test_unusable_certificate_files(tmp_path: Path, certificate: Any) -> None:
    cert, _ = certificate("good")
    _, other_key = certificate("stranger")
    for pair, problem in (
        ((cert, other_key), "the key is not that of the certificate"),
        ((cert, str(tmp_path / "none")), "No such file or directory"),
        ((cert, cert), "not a certificate and a private key in PEM form"),
    ):
        manager = OrderManagerProcess(
            tmp_path / "x", order_tls_cert_file=pair[0], order_tls_key_file=pair[1]
        )
        manager.start(wait=False)
        assert manager.process is not None
        assert manager.process.wait(timeout=10) == 2
        assert f"ORDER_TLS_KEY_FILE={pair[1]}: {problem}" in manager.log()
        manager.__exit__(None, None, None)


@pytest.mark.parametrize("encrypted", [False, True])
def test_the_strategys_client_sends_its_token(
    tmp_path: Path, certificate: Any, token_file: str, encrypted: bool
) -> None:
    cert, key = certificate("good")
    settings: dict[str, Any] = {"order_token_file": token_file}
    if encrypted:
        settings |= {"order_tls_cert_file": cert, "order_tls_key_file": key}
    with running(tmp_path, **settings) as server:
        chosen = Settings(order_port=server.port, order_manager_host="localhost", **settings)
        client = OrderClient.from_settings(chosen)
        frames = [
            EncodedOrder(
                n, encode_order(n, "desk", "BUY", "AAPL", 10, 173.2, 1_759_311_000 * 10**9)
            )
            for n in range(500)
        ]
        answers = client.submit(frames)
        assert all(answer.ok for answer in answers)
        assert len(answers) == 500
        client.close()
