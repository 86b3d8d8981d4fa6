"""Who may read the feed: what the gateway asks of clients that are not of its stack.

The same token and the same TLS as on the order port.  Without either, the ports are open, which is
allowed on a loopback address, or with PUBLISH_FEED_OPEN=true.
"""

import ssl
from functools import partial
from typing import Self

from app.config.kinds import is_loopback
from app.config.settings import Settings, SettingsError
from app.runtime.net.access import server_tls, token_matches
from app.runtime.net.credentials import Credential, Role, WatchedTokens, read_credentials


def _read_tokens(path: str) -> tuple[Credential, ...]:
    """The tokens with which one may read the feed: each that is valid on the order port."""
    return tuple(read_credentials(path))


class FeedAccess:
    """What the gateway asks of its clients; follows the file of tokens while it runs.

    ``open_to_all``: anybody may read the feed, encrypted or not, with a token or without.
    """

    def __init__(
        self, token_file: str = "", tls: ssl.SSLContext | None = None, *, open_to_all: bool = False
    ) -> None:
        """Read the tokens.

        Raises:
            SettingsError: the file cannot be used.
        """
        self._watched = WatchedTokens(token_file, partial(_read_tokens, token_file))
        self.tls = tls
        self.has_tokens = bool(token_file)
        self.needs_token = bool(token_file) and not open_to_all
        self.needs_tls = tls is not None and not open_to_all

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Read tokens and certificate.

        Raises:
            SettingsError: one of the files cannot be used, or other machines can reach the ports
                and nothing says who may read them.
        """
        require_feed_access(settings)
        return cls(
            settings.order_token_file, server_tls(settings), open_to_all=settings.publish_feed_open
        )

    def accepts(self, token: str) -> bool:
        """Whether one may read the feed with a token; all are compared, so time tells nothing."""
        return sum(token_matches(known.token, token) for known in self._watched.tokens) > 0

    def is_operator(self, token: str) -> bool:
        """Whether one may command the market with a token."""
        known = (each for each in self._watched.tokens if each.role != Role.CLIENT)
        return sum(token_matches(each.token, token) for each in known) > 0

    def look(self, now_s: float) -> bool:
        """Whether the file of tokens has been loaded anew; call it a few times a second."""
        return self.has_tokens and self._watched.look(now_s)


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
