"""Access to the order port: a token as the first frame, and TLS.

Tokens are read from files, so that they appear neither in the environment nor in a process list:
that of ORDER_TOKEN_FILE (app/runtime/net/credentials.py), or the one that the order manager makes
for the stack's own processes (app/runtime/net/stack_token.py).
"""

import contextlib
import hmac
import socket
import ssl
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from app.config.kinds import is_loopback
from app.config.settings import Settings, SettingsError
from app.model.wire.frames import json_frame
from app.runtime.net.credentials import Role, read_credentials
from app.runtime.net.receive import read_until
from app.runtime.net.stack_token import read_stack_token, stack_token_path
from app.runtime.readable import why_unreadable

WRONG_ADDRESS: Final = 64
WRONG_NAME: Final = frozenset({62, WRONG_ADDRESS})
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL."""
WRONG_TIME: Final = frozenset({9, 10})
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""
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
    """The token that a client sends: of several in the file the one that may do most.

    Empty if ``path`` is empty.

    Raises:
        SettingsError: the file cannot be used.
    """
    return _strongest(path)[0]


def _strongest(path: str) -> tuple[bytes, Role]:
    found = read_credentials(path)
    if not found:
        return b"", Role.CLIENT
    best = max(found, key=lambda each: list(Role).index(each.role))
    return best.token, best.role


def token_to_send(settings: Settings) -> bytes:
    """The token for the order manager.

    A file that has one for the stack comes first; then the run's folder, so that a file with the
    tokens of others alone needs none for the stack; then the best of the file.

    Raises:
        SettingsError: the file cannot be used, and the run's folder has no token.
    """
    own = read_stack_token(settings)
    try:
        token, role = _strongest(settings.order_token_file)
    except SettingsError:
        if own:  # The file is being written, or wrong: that ends nobody.
            return own
        raise
    return own if own and role != Role.STACK else token


def _read(setting: str, path: str) -> bytes:
    """The bytes of a file that a setting names.

    Raises:
        SettingsError: it cannot be read; the message has owner, mode and remedy.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(f"{setting}: {why_unreadable(path, error)}") from None


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
    # A client could ask for it without end, and each costs us more than the client.
    context.options |= ssl.OP_NO_RENEGOTIATION
    certificate = f"ORDER_TLS_CERT_FILE={settings.order_tls_cert_file}"
    key = f"ORDER_TLS_KEY_FILE={settings.order_tls_key_file}"
    _read(certificate, settings.order_tls_cert_file)
    _read(key, settings.order_tls_key_file)
    try:
        context.load_cert_chain(settings.order_tls_cert_file, settings.order_tls_key_file)
    except ssl.SSLError as error:
        problem = "not a certificate and a private key in PEM form"
        if error.reason == "KEY_VALUES_MISMATCH":
            problem = "the key is not that of the certificate"
        raise SettingsError(f"{certificate}, {key}: {problem} ({error})") from None
    return context


def client_tls(settings: Settings) -> ssl.SSLContext | None:
    """TLS for clients: trusts ORDER_TLS_CA_FILE, else the server's certificate; None if off.

    Raises:
        SettingsError: the file cannot be used.
    """
    setting, path = _trusted(settings)
    if not path:
        return None
    _read(setting, path)
    try:
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise SettingsError(f"{setting}: no certificate in PEM form ({error})") from None


def _trusted(settings: Settings) -> tuple[str, str]:
    """What clients trust: the setting with its value, and the path; empty without TLS."""
    if settings.order_tls_ca_file:
        return f"ORDER_TLS_CA_FILE={settings.order_tls_ca_file}", settings.order_tls_ca_file
    return f"ORDER_TLS_CERT_FILE={settings.order_tls_cert_file}", settings.order_tls_cert_file


class Server(NamedTuple):
    """A server of the stack as its clients know it: ``service`` is its host in containers."""

    service: str
    host: str
    port: int


def order_server(settings: Settings) -> Server:
    """The order manager."""
    return Server("order_manager", settings.order_manager_host, settings.order_port)


def why_not_trusted(
    error: ssl.SSLCertVerificationError,
    settings: Settings,
    timeout_s: float,
    server: Server | None = None,
) -> str:
    """What is wrong with a server's certificate, and which setting mends it."""
    server = server or order_server(settings)
    host, name = server.host, server.service.replace("_", " ")
    if error.verify_code not in WRONG_NAME:
        mend = f"{_trusted(settings)[0]} must hold it, or the one that signed it"
        if error.verify_code in WRONG_TIME:
            mend = "make a new one (ORDER_TLS_CERT_FILE), or set the clock"
        return f"certificate of the {name} on {host}: {error.verify_message}; {mend}"
    names = _names_of_server(settings, timeout_s, server)
    seen = f"is for {', '.join(names)}, not" if names else "is not"
    kind = "IP" if error.verify_code == WRONG_ADDRESS else "DNS"
    return (
        f"the {name}'s certificate {seen} for {host}: set {server.service.upper()}_HOST to a name "
        f"of the certificate (it is fixed to {server.service} in containers), or make one that has "
        f"subjectAltName={kind}:{host}, too (ORDER_TLS_CERT_FILE)"
    )


def _names_of_server(settings: Settings, timeout_s: float, server: Server) -> list[str]:
    """The names in a certificate that is trusted but of another host; empty if unknown."""
    context = client_tls(settings)
    assert context is not None
    context.check_hostname = False  # the connection is closed at once
    address = (server.host, server.port)
    with (
        contextlib.suppress(OSError),
        socket.create_connection(address, timeout=timeout_s) as connection,
        context.wrap_socket(connection, server_hostname=address[0]) as encrypted,
    ):
        found = encrypted.getpeercert() or {}
        return [str(name[1]) for name in found.get("subjectAltName", ())]
    return []


def auth_frame(token: bytes) -> bytes:
    """The first frame of a connection that needs a token."""
    return json_frame(msgspec.json.encode({"op": "auth", "token": token.decode()}))


def connect_orders(
    settings: Settings, timeout_s: float, *, as_stack: bool = False
) -> socket.socket:
    """A connection to the order port, ready for orders: TLS set up and token accepted.

    The answer to the token is read here, so that the next answer belongs to the next request.
    ``as_stack``: the order manager must know the token of the run's folder, which is sent first: it
    is accepted also while somebody guesses tokens on this host.

    Raises:
        OSError: no connection, or the order manager refused the token.
        SettingsError: a token or certificate file cannot be used.
    """
    tls, own = client_tls(settings), read_stack_token(settings)
    token = own if as_stack and own else token_to_send(settings)
    connection, answer = _try_token(settings, timeout_s, tls, token)
    is_known = answer.get("ok")
    if as_stack and token == own:
        is_known = is_known and answer.get("role", Role.STACK) == Role.STACK
    if not is_known and token == own and settings.order_token_file:
        connection.close()  # The run's folder may be that of another stack.
        token = read_token(settings.order_token_file)
        connection, answer = _try_token(settings, timeout_s, tls, token)
        is_known = answer.get("ok")
    if is_known:
        return connection
    connection.close()
    if as_stack and not settings.order_token_file:
        raise ConnectionAbortedError(
            f"the order manager does not know the token in {stack_token_path(settings)}: "
            "give all processes of the stack the same RUN_DIR, or OUTPUT_DIR"
        )
    path = settings.order_token_file or stack_token_path(settings)
    raise ConnectionRefusedError(f"it refused the token in {path}")


def _try_token(
    settings: Settings, timeout_s: float, tls: ssl.SSLContext | None, token: bytes
) -> tuple[socket.socket, dict[str, Any]]:
    """A connection, and the answer to the token; without a token nothing is sent."""
    host, port = settings.order_manager_host, settings.order_port
    connection = socket.create_connection((host, port), timeout=timeout_s)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            try:
                connection = tls.wrap_socket(connection, server_hostname=host)
            except ssl.SSLCertVerificationError as error:
                raise ssl.SSLCertVerificationError(
                    why_not_trusted(error, settings, timeout_s)
                ) from error
        if not token:
            return connection, {"ok": True}
        connection.sendall(auth_frame(token))
        return connection, msgspec.json.decode(read_until(connection)[:-1])
    except BaseException:
        connection.close()
        raise
