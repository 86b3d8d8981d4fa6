"""Asks the gateway's control port: what the market does, and to do something else.

A process of the gateway's own stack shows its proof, on plain TCP, after the gateway has shown that
it knows the proof, too.  Any other client speaks TLS, if that is set, and sends a token.
"""

import secrets
import socket
import ssl
from typing import Any, Final

import msgspec

from app.config.settings import Settings
from app.model.wire.feed_protocol import PROOF, REFUSED, WHO, answer_who
from app.model.wire.frames import DELIMITER, json_frame
from app.runtime.metrics.layout import PROOF_SLICE, MetricsError, check_header
from app.runtime.net.access import (
    Server,
    auth_frame,
    client_tls,
    read_token,
    why_not_trusted,
)
from app.runtime.net.receive import read_until
from app.shared_memory_utils.segment import Segment, SegmentError

TIMEOUT_S: Final = 5.0


class ControlError(OSError):
    """The gateway refuses this client; the message says why."""


class ControlClient:
    """Sends requests to the gateway that the settings name, each on a connection of its own.

    A request that was not answered may have been carried out; only a step is not the same twice.
    """

    def __init__(self, settings: Settings, timeout_s: float = TIMEOUT_S) -> None:
        self._settings, self._timeout_s = settings, timeout_s

    def request(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return its answer.

        Raises:
            OSError: the gateway cannot be reached, does not answer, or does not let this client in.
            SettingsError: a token or certificate file cannot be used.
        """
        with self._connect() as connection:
            return _ask(connection, request)

    def _connect(self) -> socket.socket:
        proof = stack_proof(self._settings)
        if proof:
            connection = self._open()
            try:
                if _knows(connection, proof):
                    connection.sendall(PROOF + proof.encode() + DELIMITER)
                    return connection
            except ConnectionError:
                pass  # one that does not speak plain TCP
            except BaseException:
                connection.close()
                raise
            connection.close()
        return self._connect_as_stranger()

    def _open(self) -> socket.socket:
        address = (self._settings.gateway_host, self._settings.control_port)
        connection = socket.create_connection(address, timeout=self._timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _connect_as_stranger(self) -> socket.socket:
        settings = self._settings
        tls, token = client_tls(settings), read_token(settings.order_token_file)
        connection = self._open()
        try:
            if tls is not None:
                try:
                    connection = tls.wrap_socket(connection, server_hostname=settings.gateway_host)
                except ssl.SSLCertVerificationError as error:
                    server = Server("gateway", settings.gateway_host, settings.control_port)
                    why = why_not_trusted(error, settings, self._timeout_s, server)
                    raise ssl.SSLCertVerificationError(why) from error
            if token:
                connection.sendall(auth_frame(token))
                answer = _decode(read_until(connection)[:-1])
                if not answer.get("ok"):
                    raise ControlError(str(answer.get("msg")))
            return connection
        except BaseException:
            connection.close()
            raise


def stack_proof(settings: Settings) -> str:
    """What shows that this is a process of the stack; empty where its shared memory is not."""
    try:
        segment = Segment.attach(settings.shm_metrics, writable=False)
    except SegmentError:
        return ""
    try:
        check_header(settings.shm_metrics, segment.buf)
        return bytes(segment.buf[PROOF_SLICE]).hex()
    except MetricsError:
        return ""
    finally:
        segment.close()


def _knows(connection: socket.socket, proof: str) -> bool:
    """Whether the gateway is that of this stack."""
    question = WHO + str(secrets.randbits(64)).encode()
    connection.sendall(question + DELIMITER)
    return read_until(connection) == answer_who(question, proof)


def _ask(connection: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
    connection.sendall(json_frame(msgspec.json.encode(request)))
    return _decode(read_until(connection)[:-1])


def _decode(frame: bytes) -> dict[str, Any]:
    """An answer.

    Raises:
        ControlError: the gateway does not let this client in, or is none.
    """
    if frame.startswith(REFUSED):
        raise ControlError(f"refused: {frame[len(REFUSED) :].decode('utf-8', 'replace')}")
    try:
        return msgspec.json.decode(frame, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ControlError(f"not the control port of a gateway: {error}") from None
