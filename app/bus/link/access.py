"""Whom the bus is told that we are, and whom we trust: credentials and TLS."""

import ssl
from pathlib import Path
from typing import NamedTuple

from app.config.bus import bus_servers
from app.config.settings import Settings, SettingsError
from app.runtime.readable import why_unreadable


class Login(NamedTuple):
    """User and password; both empty: none, which only a server without accounts accepts."""

    user: str
    password: str

    @property
    def inbox(self) -> str:
        """Prefix of the subjects of answers: each user may read only its own."""
        return f"_INBOX.{self.user}" if self.user else "_INBOX"


class Bounds(NamedTuple):
    """Bytes of a stream at most, on each server that has it."""

    feed: int
    orders: int


class Access(NamedTuple):
    """All that a connection needs."""

    servers: list[str]
    login: Login
    tls: ssl.SSLContext | None
    api: str
    """Prefix of JetStream's requests."""
    bounds: Bounds
    """Of the streams that are made over the connection."""


def bus_access(settings: Settings) -> Access:
    """Read what the settings of the bus name.

    Raises:
        SettingsError: BUS_URL is empty, or a file cannot be used.
    """
    servers = bus_servers(settings.bus_url)
    if not servers:
        raise SettingsError(
            "BUS_URL: required here, the servers of the bus, such as nats://127.0.0.1:4222"
        )
    bounds = Bounds(settings.bus_feed_bytes_max, settings.bus_orders_bytes_max)
    return Access(servers, _login(settings), _tls(settings, servers[0]), settings.bus_api, bounds)


def _login(settings: Settings) -> Login:
    if not settings.bus_creds:
        return Login(settings.bus_user, settings.bus_password)
    text = _read("BUS_CREDS", settings.bus_creds).strip()
    user, colon, password = text.partition(":")
    if not (user and colon and password) or len(text.split()) != 1:
        wants = "must hold one line user:password"
        if "NATS USER JWT" in text:
            wants += "; NATS's own form with a JWT is not supported"
        raise SettingsError(f"BUS_CREDS={settings.bus_creds}: {wants}")
    return Login(user, password)


def _tls(settings: Settings, server: str) -> ssl.SSLContext | None:
    if not server.startswith("tls:"):
        return None
    path = settings.bus_tls_ca
    if path:
        _read("BUS_TLS_CA", path)
    try:
        context = ssl.create_default_context(cafile=path or None)
    except ssl.SSLError as error:
        raise SettingsError(f"BUS_TLS_CA={path}: no certificate in PEM form ({error})") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _read(setting: str, path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError as error:
        raise SettingsError(f"{setting}={path}: {why_unreadable(path, error)}") from None
