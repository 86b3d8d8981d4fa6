"""A connection to the bus, checked before it is used; who loses it makes a new one.

nats-py could reconnect by itself, and would then send again what it had buffered.  Here a
connection lives once: a new one begins with what the streams have, so nothing depends on what was
under way.
"""

import asyncio
import contextlib
import random
import re
import ssl
from typing import Final, Self

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext

from app.bus.link.access import Access, Bounds
from app.runtime.lifecycle import FatalError
from app.runtime.log import get_logger

log = get_logger()

CONNECT_TIMEOUT_S: Final = 3.0
"""For each server: TCP, TLS and the login."""
REQUEST_TIMEOUT_S: Final = 5.0
PING_S: Final = 2
"""Seconds between pings; a server that leaves two of them unanswered is lost."""
OLDEST: Final = (2, 11)
"""Before it a leader could lose what it had acknowledged, and consumers could stall."""
NO_JETSTREAM: Final = (503, 10039)
"""Codes of the broker's answer: JetStream is not enabled, for the server or for the account."""
OTHER_NAME: Final = frozenset({62, 64})
"""OpenSSL's codes: a certificate is for another host name, or for another address."""
_DENIED: Final = re.compile(
    r'Permissions Violation for (?:Publish|Subscription) to "([^"]+)"', re.IGNORECASE
)


class BusUnavailable(Exception):
    """No server can be used at the moment: a later attempt may succeed.  One line."""


class _Unfit(BusUnavailable):
    """This server will not do: of several another one is asked, and one alone is refused.

    ``fix``: what to do about one alone.
    """

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.fix = fix


class BusRefused(FatalError):
    """The bus will not do it however often it is asked: settings or servers must change."""

    def __init__(self, message: str) -> None:
        super().__init__(message, final=True)


class _Client(Client):
    """nats-py takes ``tls://`` for a wish; here no password goes to a server without TLS."""

    def _connect_command(self) -> bytes:
        server = self._current_server
        encrypted = self._server_info.get("tls_required")
        if server is not None and server.uri.scheme == "tls" and not encrypted:
            raise nats.errors.SecureConnWantedError
        return super()._connect_command()


class Link:
    """An open connection, as a context: ``async with await Link.open(access, "shard-a") as link``.

    ``lost`` is set when it ends, whatever the reason; ``why`` then says it.
    """

    def __init__(self, client: Client, name: str, api: str, bounds: Bounds) -> None:
        self.client, self.name, self.api, self.bounds = client, name, api, bounds
        self.js = JetStreamContext(client, prefix=api, timeout=REQUEST_TIMEOUT_S)
        self.lost = asyncio.Event()
        self.why = ""
        self._denied: set[str] = set()

    @classmethod
    async def open(cls, access: Access, name: str) -> Self:
        """Connect to one of the servers, in random order, and check what it is.

        Raises:
            BusUnavailable: none answers.
            BusRefused: one answers, and is not what we need, or does not want us.
        """
        problems = []
        for server in random.sample(access.servers, len(access.servers)):
            try:
                return await cls._open(access, server, name)
            except _Unfit as error:
                if len(access.servers) == 1:
                    raise BusRefused(f"BUS_URL: {server} {error}: {error.fix}") from None
                problems.append(f"{server} {error}")
            except BusUnavailable as error:
                problems.append(f"{server}: {error}")
        raise BusUnavailable("; ".join(problems))

    @classmethod
    async def _open(cls, access: Access, server: str, name: str) -> Self:
        client = _Client()
        link = cls(client, name, access.api, access.bounds)
        login = access.login
        try:
            # The client itself would wait longer where a server accepts and says nothing.
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await client.connect(
                    [server],
                    name=name,
                    user=login.user or None,
                    password=login.password or None,
                    tls=access.tls,
                    inbox_prefix=login.inbox,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=int(CONNECT_TIMEOUT_S),
                    ping_interval=PING_S,
                    error_cb=link._on_error,
                    closed_cb=link._on_closed,
                )
            await link._check(server)
        except BaseException as error:
            await link.close()
            if isinstance(error, (nats.errors.Error, OSError, TimeoutError, EOFError)):
                raise link._refusal(server, error, login.user) from None
            raise
        return link

    def _refusal(self, server: str, error: Exception, user: str) -> Exception:
        """Whether to try again, and what to say."""
        cause: BaseException = error
        if isinstance(error, nats.errors.NoServersError) and self._last is not None:
            cause = self._last
        text = f"{cause}".removeprefix("nats: ").strip("' ") or type(cause).__name__
        if isinstance(cause, ssl.SSLCertVerificationError):
            if server.startswith("nats:"):
                return BusRefused(
                    f"BUS_URL: {server} wants TLS: write tls:// instead of nats://, and set "
                    "BUS_TLS_CA"
                )
            if cause.verify_code in OTHER_NAME:
                # A server that starts may have the address that another one had.
                problem = f"has another server's certificate ({cause.verify_message})"
                return _Unfit(problem, "write a name that it has")
            return BusRefused(
                f"BUS_URL: the certificate of {server} is not trusted ({cause.verify_message}): "
                "BUS_TLS_CA must hold it, or the one that signed it"
            )
        if "authorization violation" in text.lower():
            who = f"the user {user!r}" if user else "a client without credentials"
            return BusRefused(
                f"BUS_URL: {server} does not let {who} in: set BUS_CREDS (or BUS_USER and "
                "BUS_PASSWORD) to a user of the broker"
            )
        if isinstance(cause, nats.errors.SecureConnWantedError):
            return BusRefused(f"BUS_URL: {server} has no TLS: write nats:// instead of tls://")
        return BusUnavailable(text if not isinstance(cause, TimeoutError) else "no answer in time")

    async def _check(self, server: str) -> None:
        version = self.client.connected_server_version
        if (version.major, version.minor) < OLDEST:
            raise BusRefused(
                f"BUS_URL: {server} is NATS {version.major}.{version.minor}.{version.patch}: it "
                f"must be {OLDEST[0]}.{OLDEST[1]} or later"
            )
        if not self.client._server_info.get("jetstream"):
            # One whose disk is full or broken turns it off.
            raise _Unfit(
                "runs without JetStream",
                "set jetstream in its configuration, or free its disk and start it again",
            )

    _last: Exception | None = None

    async def _on_error(self, error: Exception) -> None:
        self._last = error
        if found := _DENIED.search(str(error)):
            self._denied.add(found[1])  # nats-py gives it in lower case
            log.warning("bus_denied", name=self.name, subject=found[1])

    async def _on_closed(self) -> None:
        self._end(str(self._last or "the server closed it"))

    def _end(self, why: str) -> None:
        if not self.lost.is_set():
            self.why = why.removeprefix("nats: ") or "no reason given"
            self.lost.set()

    def denied(self, subject: str) -> bool:
        """Whether the broker has refused us this subject: such a request is never answered."""
        return subject.lower() in self._denied

    async def close(self) -> None:
        """Close it at once: what is not acknowledged is sent again by the next one."""
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            await asyncio.wait_for(self.client.close(), 1.0)
        self._end("closed")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()


def no_jetstream(error: nats.js.errors.APIError) -> bool:
    """Whether the broker says that it has no JetStream for us."""
    return error.code == NO_JETSTREAM[0] and error.err_code == NO_JETSTREAM[1]
