"""Who may talk to the order port: a shared token as the first frame, and TLS.

The token lives in a file, so that it is neither in the environment nor in a process list.  Without
one the port is open to whoever reaches it, which is allowed only while that is this machine.
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
"""What clients of other protocols say first; the last is a TLS handshake on a plain port."""


def speaks_another_protocol(data: bytes) -> bool:
    """Whether the first bytes of a connection are those of another protocol."""
    return data.startswith(OTHER_PROTOCOLS)


def read_token(path: str) -> bytes:
    """The token in the file, surrounding white space removed; empty without a file.

    Raises:
        SettingsError: the file cannot be read, or holds too little to be a secret.
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
    """Compare in a time that does not depend on where they differ."""
    return hmac.compare_digest(token, offered.encode())


def require_token_if_published(settings: Settings) -> None:
    """Refuse to serve beyond this machine without a token.

    Raises:
        SettingsError: the port is reachable from elsewhere and there is no token.
    """
    published = settings.order_published_host or settings.bind_host
    if not is_loopback(published) and not settings.order_token_file:
        raise SettingsError(
            f"ORDER_TOKEN_FILE: required, because the order port is open on {published}, beyond "
            "this machine (ORDER_PUBLISHED_HOST, or BIND_HOST where that is empty)"
        )


def server_tls(settings: Settings) -> ssl.SSLContext | None:
    """The server's side of TLS with the user's certificate, or None where it is off.

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
    """The client's side: trusts ORDER_TLS_CA_FILE, or the certificate itself; None where off.

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
    """A connection to the order port, ready for orders: TLS and token done as the settings say.

    The answer to the token is read here, so that the next answer is the next request's.

    Raises:
        OSError: no connection, or the token was refused.
        SettingsError: a file that the settings name cannot be used.
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
