"""Who may read the feed: what the gateway asks of clients that are not of its stack.

The same token and the same TLS as on the order port.  Without either, the ports are open, which is
allowed on a loopback address, or with PUBLISH_FEED_OPEN=true.
"""

import ssl
from typing import NamedTuple

from app.config import Settings, SettingsError, is_loopback
from app.runtime.net.access import read_token, server_tls, token_matches


class FeedAccess(NamedTuple):
    """What the gateway needs to know about its clients."""

    token: bytes = b""
    tls: ssl.SSLContext | None = None
    open_to_all: bool = False
    """Anybody may read the feed, encrypted or not, with a token or without."""

    @classmethod
    def from_settings(cls, settings: Settings) -> "FeedAccess":
        """Read the token and the certificate.

        Raises:
            SettingsError: one of the files cannot be used, or other machines can reach the ports
                and nothing says who may read them.
        """
        require_feed_access(settings)
        token = read_token(settings.order_token_file)
        return cls(token, server_tls(settings), settings.publish_feed_open)

    @property
    def needs_token(self) -> bool:
        """Whether a client has to send the token first."""
        return bool(self.token) and not self.open_to_all

    @property
    def needs_tls(self) -> bool:
        """Whether a client has to speak TLS."""
        return self.tls is not None and not self.open_to_all

    def accepts(self, token: str) -> bool:
        """Whether a token allows to read the feed: each that is valid on the order port does."""
        return token_matches(self.token, token)


def published_host(settings: Settings) -> str:
    """The address from which the ports are reached: in containers not the one they listen on."""
    return settings.order_published_host or settings.bind_host


def require_feed_access(settings: Settings) -> None:
    """Refuse to serve other machines as long as nothing says who may read the feed.

    Raises:
        SettingsError: other machines can reach the ports; there is no token, and they are not open
            to all.
    """
    host = published_host(settings)
    if not (is_loopback(host) or settings.order_token_file or settings.publish_feed_open):
        raise SettingsError(
            f"ORDER_TOKEN_FILE: required, because other machines can reach the feed ports on "
            f"{host} (PUBLISH_HOST in Compose, BIND_HOST on the host); or set "
            "PUBLISH_FEED_OPEN=true, so that anybody may read the feed"
        )


def sends_token_in_the_clear(settings: Settings) -> bool:
    """Whether clients of other machines send their token without TLS."""
    return bool(
        settings.order_token_file
        and not settings.order_tls_cert_file
        and not settings.publish_feed_open
        and not is_loopback(published_host(settings))
    )
