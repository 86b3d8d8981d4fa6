"""With ORDER_TLS_CERT_FILE the page is served with TLS only."""

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.dashboard.page_stack import COMMAND, PageStack
from tests.support.certificates import make_certificate

pytestmark = [pytest.mark.medium, pytest.mark.timeout(120)]

TOKEN = "operator-token-of-the-page"


class Encrypted(PageStack):
    """Requests go through TLS, and check the certificate."""

    def __init__(self, folder: Path) -> None:
        cert, key = make_certificate(folder)
        tokens = folder / "tokens"
        tokens.write_text(f"{TOKEN} role=stack\n")
        super().__init__(
            folder, replay="walk", pace="200/s",
            order_tls_cert_file=cert, order_tls_key_file=key, order_tls_ca_file=cert,
            order_token_file=tokens,
        )  # fmt: skip
        self.url = f"https://127.0.0.1:{self.page_port}"
        self.tls = ssl.create_default_context(cafile=cert)

    def request(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> http.client.HTTPResponse:
        """An answer with its headers."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.page_port, timeout=10, context=self.tls
        )
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, headers if body is None else COMMAND | headers)
        return connection.getresponse()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    with Encrypted(tmp_path_factory.mktemp("tls")) as made:
        made.wait_page()
        assert f"page_ready url={made.url}/ token=true" in made.log_path.read_text().lower()
        yield made


def test_the_page_its_stream_and_its_commands_come_with_tls(stack: Encrypted) -> None:
    assert stack.request("GET", "/healthz").status == 200
    assert stack.request("GET", "/").getheader("location") == "/login"
    login = stack.request("POST", "/login", {"token": TOKEN}, Origin=stack.url)
    assert login.status == 200
    cookie = str(login.getheader("set-cookie"))
    # A browser never sends it without TLS.
    assert {"secure", "httponly", "samesite=strict"} <= set(cookie.lower().split("; "))
    own = {"Cookie": cookie.partition(";")[0]}
    assert b"<title>Trading stack</title>" in stack.request("GET", "/", **own).read()
    stream = stack.request("GET", "/events", **own)
    assert stream.getheader("content-type") == "text/event-stream; charset=utf-8"
    line = b""
    while not line.startswith(b"data: "):
        line = stream.readline()
    assert json.loads(line[6:])["reset"] is True
    for op in ("pause", "resume"):
        told = stack.request("POST", "/commands/transport", {"op": op}, Origin=stack.url, **own)
        assert (told.status, json.load(told)["ok"]) == (200, True)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert b"trading_stack_up 1.0" in stack.request("GET", "/metrics", **bearer).read()


def test_the_same_name_without_tls_is_another_origin(stack: Encrypted) -> None:
    for origin, status in ((stack.url.replace("https", "http"), 403), (stack.url, 200)):
        assert stack.request("POST", "/login", {"token": TOKEN}, Origin=origin).status == status


def test_without_tls_nothing_is_answered(stack: Encrypted) -> None:
    plain = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    try:
        answer = stack.raw(plain)
    except ConnectionResetError:
        answer = b""
    assert b"HTTP" not in answer
    # Nor by a certificate that nobody vouches for.
    others = ssl.create_default_context()
    with (
        socket.create_connection(("127.0.0.1", stack.page_port)) as sock,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        others.wrap_socket(sock, server_hostname="127.0.0.1")
    assert stack.request("GET", "/healthz").status == 200


def test_a_handshake_that_never_ends_is_ended(stack: Encrypted) -> None:
    begin_s = time.monotonic()
    with socket.create_connection(("127.0.0.1", stack.page_port), 20) as sock:
        sock.sendall(b"\x16\x03\x01\x02\x00")
        assert sock.recv(1) == b""
    assert 3 < time.monotonic() - begin_s < 15
    assert stack.request("GET", "/healthz").status == 200
