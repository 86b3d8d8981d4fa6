"""Who may read the page and command the stack: hosts, origins, tokens, sizes, headers.

Without a token the page is for this machine, so only its own names are answered: a page of another
site whose name suddenly leads here (DNS rebinding) is not.  With ORDER_TOKEN_FILE a browser shows
an operator's token once, and gets a cookie for it that no script can read.
"""

import hashlib
import hmac
import secrets
import time
from typing import Final, NamedTuple

from app.config.kinds import is_loopback
from app.config.settings import Settings, SettingsError
from app.model.repeat_window import OTHER
from app.runtime.log import get_logger
from app.runtime.net.credentials import Role, WatchedTokens, read_credentials
from app.runtime.net.strangers import Penalties, refusal_window

log = get_logger()

COMMAND_HEADER: Final = "x-trading-command"
"""Needed for a command: a page of another origin cannot send it without this one's consent."""
PAGE: Final = "dashboard"
"""The page whose settings apply by default; in the containers' network also its host."""
COOKIE: Final = "trading_session"
SESSION_S: Final = 12 * 3600.0
SESSIONS_MAX: Final = 256
GUESSES_MAX: Final = 8
"""Wrong tokens of a host that are still being paid for; with more it has to wait."""
BODY_BYTES_MAX: Final = 4096

HEADERS: Final = (
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    # unload: see static/stream/stream.js
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), unload=(self)"),
    ("x-frame-options", "DENY"),
)
"""Of every answer."""


class Refusal(NamedTuple):
    """Why a request is not answered."""

    status: int
    reason: str


def serves_strangers(settings: Settings, page: str = PAGE) -> bool:
    """Whether other machines can reach the page."""
    own: str = getattr(settings, f"{page}_host")
    where = own or settings.order_published_host or settings.bind_host
    return not is_loopback(where)


def require_token(settings: Settings, page: str = PAGE) -> None:
    """Refuse to serve other machines without a token.

    Raises:
        SettingsError: other machines can reach the page, and no token is set.
    """
    if serves_strangers(settings, page) and not settings.order_token_file:
        name = page.upper()
        raise SettingsError(
            f"ORDER_TOKEN_FILE: required, because other machines can reach the {page} "
            f"({name}_HOST; PUBLISH_HOST in containers; BIND_HOST if that is empty); "
            f"or {name}_PORT=0"
        )


def host_name(host: str) -> str:
    """``Host`` without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


class Access:
    """Answers whether a request is allowed.

    Raises:
        SettingsError: the token file cannot be used.
    """

    def __init__(self, settings: Settings, page: str = PAGE) -> None:
        self._page = page
        self._path = settings.order_token_file
        self._tokens = WatchedTokens(self._path, self._load) if self._path else None
        self._sessions: dict[str, tuple[bytes, float]] = {}
        """Cookie -> digest of the token that it stands for, and until when."""
        self._penalties = Penalties()
        self._refused = refusal_window()

    def _load(self) -> frozenset[bytes]:
        found = read_credentials(self._path)
        return frozenset(_digest(c.token) for c in found if c.role != Role.CLIENT)

    @property
    def needs_token(self) -> bool:
        """Whether a token is needed."""
        return self._tokens is not None

    def look(self) -> None:
        """Follow the token file, and count refusals; call it about once a second."""
        now_s = time.monotonic()
        if self._tokens is not None:
            self._tokens.look(now_s)
        for (status, host), more in self._refused.take_rest(now_s):
            log.warning("pages_refused", peer=host, status=int(status), more=more)

    def log_refusal(self, peer: str, refusal: Refusal) -> None:
        """A line, unless there were some of this host; then their number later."""
        status = str(refusal.status)
        if self._refused.add((status, peer), (status, OTHER), time.monotonic()):
            log.warning("page_refused", peer=peer, status=refusal.status, reason=refusal.reason)

    def refuse_origin(
        self, headers: dict[str, str], scheme: str, *, scraped: bool = False
    ) -> Refusal | None:
        """Refuse another site's page, and a name that is not this machine's.

        ``scraped``: Prometheus in a container of the stack asks, by the name of the service.
        """
        host = headers.get("host", "")
        own = scraped and host_name(host) == self._page
        if not self.needs_token and not own and not is_loopback(host_name(host)):
            return Refusal(421, "Host: this page answers to localhost and 127.0.0.1 only")
        origin = headers.get("origin")
        if origin is not None and origin != f"{scheme}://{host}":
            return Refusal(403, "Origin: another site's page may not ask this one")
        site = headers.get("sec-fetch-site", "same-origin")
        navigates = headers.get("sec-fetch-mode") == "navigate"
        if site not in ("same-origin", "none") and not navigates:
            return Refusal(403, "Sec-Fetch-Site: another site's page may not ask this one")
        return None

    def refuse_command(self, headers: dict[str, str]) -> Refusal | None:
        """Refuse a command that a foreign page could have caused, or that is too long."""
        if headers.get(COMMAND_HEADER) != "1":
            return Refusal(403, f"{COMMAND_HEADER}: 1 is needed for a command")
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return Refusal(415, "content-type: application/json is needed")
        length = headers.get("content-length", "")
        if "transfer-encoding" in headers:  # then the length would not count
            return Refusal(411, "transfer-encoding: a body of a known length is needed")
        if not length.isascii() or not length.isdigit() or len(length) > 9:
            return Refusal(411, "content-length: a number of bytes is needed")
        if int(length) > BODY_BYTES_MAX:
            return Refusal(413, f"content-length: over {BODY_BYTES_MAX} bytes")
        return None

    def refuse_stranger(self, headers: dict[str, str], peer: str) -> Refusal | None:
        """Refuse whoever has not shown a token, where one is needed."""
        if not self.needs_token or self._has_session(headers.get("cookie", "")):
            return None
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return Refusal(401, "a token is needed: open the page, or send Authorization: Bearer")
        return self.check_token(token.strip(), peer)

    def check_token(self, token: str, peer: str) -> Refusal | None:
        """Refuse a wrong token; whoever guesses has to wait."""
        now_s = time.monotonic()
        if self._penalties.places(peer, now_s) >= GUESSES_MAX:
            return Refusal(429, "too many wrong tokens from this host: wait half a minute")
        if self._knows(_digest(token.encode("utf-8", "replace"))):
            return None
        self._penalties.add(peer, now_s)
        return Refusal(401, "wrong token: ORDER_TOKEN_FILE has those of operators and of the stack")

    def _knows(self, digest: bytes) -> bool:
        assert self._tokens is not None
        return any(hmac.compare_digest(digest, known) for known in self._tokens.tokens)

    def open_session(self, token: str) -> str:
        """A new cookie for a token that was checked."""
        now_s = time.monotonic()
        live = {name: each for name, each in self._sessions.items() if each[1] > now_s}
        while len(live) >= SESSIONS_MAX:
            del live[next(iter(live))]
        name = secrets.token_urlsafe(32)
        live[name] = _digest(token.encode()), now_s + SESSION_S
        self._sessions = live
        return name

    def close_session(self, cookies: str) -> None:
        """Forget the cookie of a request."""
        self._sessions.pop(_cookie(cookies), None)

    def _has_session(self, cookies: str) -> bool:
        digest, until_s = self._sessions.get(_cookie(cookies), (b"", 0.0))
        # The token may have been removed from the file since.
        return until_s > time.monotonic() and self._knows(digest)


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _cookie(cookies: str) -> str:
    for part in cookies.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""
