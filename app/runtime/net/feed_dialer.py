"""Connects to the feed ports: of this stack with its proof, of another with token and TLS.

Which of the two it is, the gateway says.  On plain TCP a process shows the proof of its stack, and
a gateway of another stack answers that this is not enough.  Where TLS is set, the gateway has to
know the proof first, unless it is on this host: otherwise anybody on the way could say that no TLS
is needed.
"""

import ssl

from app.config.kinds import is_loopback
from app.config.settings import Settings, SettingsError
from app.runtime.log import get_logger
from app.runtime.net.access import Server, client_tls, read_token, why_not_trusted
from app.runtime.net.feed_client import (
    CONNECT_TIMEOUT_S,
    Credentials,
    FeedClosed,
    FeedConnection,
    FeedRefused,
)

log = get_logger()


class FeedDialer:
    """Opens one connection after another to the gateway that the settings name.

    ``proof``, in each call: shows that this is a process of the gateway's stack.

    Each call raises:
        FeedClosed: the gateway cannot be reached, does not answer, or refuses this client.
        RemoteProtocolError: its answer is malformed or for another tick.
        SettingsError: a token or certificate file cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tls_is_set = bool(settings.order_tls_ca_file or settings.order_tls_cert_file)
        self._can_authenticate = self._tls_is_set or bool(settings.order_token_file)
        self._is_foreign = False
        """Whether the gateway was one of another stack the last time."""
        self._files_were_good = False
        """Then a wrong one is being changed, and a later attempt reads it again."""

    def prices(self, seq: int, proof: str, *, must_be_sequenced: bool = False) -> FeedConnection:
        """The price port, from tick ``seq`` on."""
        return self._dial(self._settings.price_port, seq, proof, must_be_sequenced, symbols=True)

    def sentiment(self, seq: int, proof: str, *, must_be_sequenced: bool = False) -> FeedConnection:
        """The sentiment port, from tick ``seq`` on."""
        port = self._settings.sentiment_port
        return self._dial(port, seq, proof, must_be_sequenced, symbols=False)

    def _dial(
        self, port: int, seq: int, proof: str, must_be_sequenced: bool, *, symbols: bool
    ) -> FeedConnection:
        def connect(
            must_know_proof: bool = False, credentials: Credentials | None = None
        ) -> FeedConnection:
            return FeedConnection(
                self._settings.gateway_host,
                port,
                seq,
                has_symbols=symbols,
                must_be_sequenced=must_be_sequenced,
                silent_s_max=self._settings.heartbeat_timeout_s,
                proof=proof,
                must_know_proof=must_know_proof,
                credentials=credentials,
            )

        must_ask = self._tls_is_set and not is_loopback(self._settings.gateway_host)
        if not self._is_foreign and (proof or not must_ask):
            try:
                return connect(must_know_proof=must_ask)
            except FeedRefused as refusal:
                if not self._can_authenticate:
                    raise
                log.debug("feed_needs_token", reason=str(refusal))
        try:
            feed = connect(credentials=self._credentials())
        except ssl.SSLCertVerificationError as error:
            self._is_foreign = False
            server = Server("gateway", self._settings.gateway_host, port)
            reason = why_not_trusted(error, self._settings, CONNECT_TIMEOUT_S, server)
            raise FeedClosed(reason) from error
        except FeedClosed:
            self._is_foreign = False  # another one may have its place by now
            raise
        self._is_foreign = True
        return feed

    def _credentials(self) -> Credentials:
        try:
            token = read_token(self._settings.order_token_file)
            found = Credentials(token, client_tls(self._settings))
        except SettingsError as error:
            if self._files_were_good:
                raise FeedClosed(str(error)) from error
            raise
        self._files_were_good = True
        return found
