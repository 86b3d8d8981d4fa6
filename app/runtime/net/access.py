"""Access to the order port: a shared token as the first frame, and TLS.

The token is read from a file, so that it appears neither in the environment nor in a process list.
Without a token the port accepts every client, which is allowed only on a loopback address.
"""

import hmac
import socket
import ssl
from pathlib import Path
from typing import Final

import msgspec

from app.config import Settings, SettingsError, is_loopback
from app.model.wire.frames import json_frame
from app.runtime.net.receive import read_until

TOKEN_BYTES_MIN: Final = 16
OTHER_PROTOCOLS: Final = (
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"OPTIONS ",
    b"CONNECT ",
    b"PRI ",
    b"SSH-",
    b"8=FIX",
    b"EHLO ",
    b"HELO ",
    b"\x16\x03",
)
"""First bytes of other protocols' clients; the last is a TLS handshake on a plain port."""


def speaks_another_protocol(data: bytes) -> bool:
    """Whether a connection that begins with ``data`` speaks another protocol."""
    return data.startswith(OTHER_PROTOCOLS)


def read_token(path: str) -> bytes:
    """The token in the file, surrounding white space removed; empty if ``path`` is empty.

    Raises:
        SettingsError: the file cannot be read, or the token is shorter than TOKEN_BYTES_MIN.
    """
    if not path:
        return b""
    try:
        token = Path(path).read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"ORDER_TOKEN_FILE={path}: {error.strerror}") from None
    if len(token) < TOKEN_BYTES_MIN:
        raise SettingsError(
            f"ORDER_TOKEN_FILE={path}: a token of {len(token)} bytes, at least {TOKEN_BYTES_MIN}; "
            "make one with: openssl rand -hex 32"
        )
    return token


def token_matches(token: bytes, offered: str) -> bool:
    """Compare in constant time, so that timing tells nothing about the token."""
    return hmac.compare_digest(token, offered.encode())


def require_token_if_published(settings: Settings) -> None:
    """Refuse to serve other machines without a token.

    Raises:
        SettingsError: other machines can reach the port, and no token is set.
    """
    published = settings.order_published_host or settings.bind_host
    if not is_loopback(published) and not settings.order_token_file:
        raise SettingsError(
            f"ORDER_TOKEN_FILE: required, because other machines can reach the order port on "
            f"{published} (ORDER_PUBLISHED_HOST, or BIND_HOST if that is empty)"
        )


def server_tls(settings: Settings) -> ssl.SSLContext | None:
    """TLS for the order manager with the user's certificate; None if TLS is off.

    Raises:
        SettingsError: the certificate or the key cannot be used.
    """
    if not settings.order_tls_cert_file:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.order_tls_cert_file, settings.order_tls_key_file)
    except OSError as error:
        raise SettingsError(
            f"ORDER_TLS_CERT_FILE={settings.order_tls_cert_file}, "
            f"ORDER_TLS_KEY_FILE={settings.order_tls_key_file}: {error}"
        ) from None
    return context


def client_tls(settings: Settings) -> ssl.SSLContext | None:
    """TLS for clients: trusts ORDER_TLS_CA_FILE, else the server's certificate; None if off.

    Raises:
        SettingsError: the file cannot be used.
    """
    trusted = settings.order_tls_ca_file or settings.order_tls_cert_file
    if not trusted:
        return None
    try:
        return ssl.create_default_context(cafile=trusted)
    except OSError as error:
        raise SettingsError(f"ORDER_TLS_CA_FILE={trusted}: {error}") from None


def auth_frame(token: bytes) -> bytes:
    """The first frame of a connection that needs a token."""
    return json_frame(msgspec.json.encode({"op": "auth", "token": token.decode()}))


def connect_orders(settings: Settings, timeout_s: float) -> socket.socket:
    """A connection to the order port, ready for orders: TLS set up and token accepted.

    The answer to the token is read here, so that the next answer belongs to the next request.

    Raises:
        OSError: no connection, or the order manager refused the token.
        SettingsError: a token or certificate file cannot be used.
    """
    tls, token = client_tls(settings), read_token(settings.order_token_file)
    host, port = settings.order_manager_host, settings.order_port
    connection = socket.create_connection((host, port), timeout=timeout_s)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            connection = tls.wrap_socket(connection, server_hostname=host)
        if token:
            connection.sendall(auth_frame(token))
            if not msgspec.json.decode(read_until(connection)[:-1]).get("ok"):
                raise ConnectionAbortedError("the order manager refused the token")
    except BaseException:
        connection.close()
        raise
    return connection
