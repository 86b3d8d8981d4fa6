"""Read one frame from a blocking socket, for clients that send one request and wait."""

import socket

from app.model.wire.frames import DELIMITER, MAX_FRAME_BYTES

RECV_BYTES = 65536


def read_until(connection: socket.socket, end: bytes = DELIMITER) -> bytes:
    """Receive until ``end``; return the bytes up to and including it.

    Raises:
        OSError: the peer closed first, or sent more than twice the longest frame without ``end``;
            or any error of the socket.
    """
    received = b""
    while end not in received:
        data = connection.recv(RECV_BYTES)
        if not data:
            raise ConnectionAbortedError(f"the peer closed after {received[:80]!r}")
        received += data
        if end not in received and len(received) > 2 * MAX_FRAME_BYTES:
            raise OSError(f"no {end!r} within {len(received)} bytes")
    return received[: received.index(end) + len(end)]
