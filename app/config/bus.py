"""The settings of the bus: addresses of its servers, and what goes together."""

import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

DEFAULT_PORT = 4222
_SOURCE = re.compile(r"nats://(?:md\.([a-z0-9-]{1,32}))?(?:/([A-Za-z0-9_.-]{1,64}))?/?")


class BusSettings(Protocol):
    """The part of the settings that this module reads."""

    @property
    def bus_url(self) -> str: ...
    @property
    def bus_user(self) -> str: ...
    @property
    def bus_password(self) -> str: ...
    @property
    def bus_creds(self) -> str: ...
    @property
    def bus_tls_ca(self) -> str: ...


def bus_servers(url: str) -> list[str]:
    """The addresses in BUS_URL, each as scheme, host and port.

    Raises:
        ValueError: one of them is wrong; the message says which, and what it must be.
    """
    servers = []
    for text in filter(None, (part.strip() for part in url.split(","))):
        parts = urlsplit(text)
        if "@" in parts.netloc:
            # Not repeated: it may be a password.
            raise ValueError("has a user in an address: set BUS_CREDS, or BUS_USER, instead")
        try:
            port = parts.port or DEFAULT_PORT
        except ValueError:
            port = 0
        if parts.scheme not in ("nats", "tls") or not parts.hostname or not port:
            raise ValueError(f"{text!r} is no address such as nats://host:4222 or tls://host:4222")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(f"{text!r} must end after the port")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        servers.append(f"{parts.scheme}://{host}:{port}")
    if len({server.partition(":")[0] for server in servers}) > 1:
        raise ValueError("has servers with TLS and servers without: use one of tls:// and nats://")
    return servers


def bus_problems(settings: BusSettings) -> Iterator[str]:
    """What is wrong with the settings of the bus, one line per problem."""
    servers: list[str] = []
    try:
        servers = bus_servers(settings.bus_url)
    except ValueError as error:
        yield f"BUS_URL: {error}"
    if bool(settings.bus_user) != bool(settings.bus_password):
        yield "BUS_USER, BUS_PASSWORD: set both or neither"
    if settings.bus_creds and settings.bus_user:
        yield "BUS_CREDS, BUS_USER: set one of them, both say who connects"
    if settings.bus_tls_ca and servers and servers[0].startswith("nats:"):
        yield (
            f"BUS_TLS_CA={settings.bus_tls_ca}: without TLS nobody vouches for the servers: write "
            "tls:// in BUS_URL"
        )


class BusSource(NamedTuple):
    """The stream that a gateway reads: of which shard, and which run; "": the last one begun."""

    shard: str
    run: str


class SourceSettings(BusSettings, Protocol):
    """What says which stream a gateway reads."""

    @property
    def data_path(self) -> str: ...
    @property
    def sentiment_path(self) -> str: ...
    @property
    def shard(self) -> str: ...


def bus_source(settings: SourceSettings) -> BusSource:
    """The stream that DATA_PATH names: ``nats://`` of SHARD, ``nats://md.a``, ``nats://md.a/RUN``.

    Raises:
        ValueError: it names none.
    """
    # Compose puts a folder before the DATA_PATH of who computes the run again.
    _, _, rest = settings.data_path.partition("nats://")
    found = _SOURCE.fullmatch(f"nats://{rest}")
    if not found:
        raise ValueError(
            f"DATA_PATH=nats://{rest[:60]}: must be nats://md.SHARD or nats://md.SHARD/RUN; the "
            "servers are in BUS_URL"
        )
    shard = found[1] or settings.shard
    if not shard:
        raise ValueError("DATA_PATH=nats://: set SHARD, or write nats://md.SHARD")
    return BusSource(shard, found[2] or "")


def bus_source_problems(settings: SourceSettings) -> Iterator[str]:
    """What is wrong where the prices come from the bus."""
    try:
        bus_source(settings)
    except ValueError as error:
        yield str(error)
    if not settings.bus_url:
        yield "BUS_URL=: prices from the bus need its servers, such as nats://127.0.0.1:4222"
    if settings.sentiment_path:
        yield "SENTIMENT_PATH: sentiment comes with the prices of the bus; leave it empty"
