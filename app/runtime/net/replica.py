"""The number of this container among the replicas of its Compose service.

Compose names containers ``PROJECT-SERVICE-NUMBER`` and tells the container neither.  The engine's
DNS server knows the name: it answers the reverse lookup of the container's own address.  (The
resolver of the C library does not ask it, because the address is in /etc/hosts.)
"""

import contextlib
import functools
import ipaddress
import re
import secrets
import socket
import struct
from pathlib import Path
from typing import Final

ENGINE_DNS: Final = ("127.0.0.11", 53)
"""Where Docker's DNS server listens inside a container on a network of Compose."""
RESOLVER_FILE: Final = Path("/etc/resolv.conf")
TIMEOUT_S: Final = 1.0
PTR: Final = 12
INTERNET: Final = 1
JUMPS_MAX: Final = 16
_HEADER: Final = struct.Struct("!6H")
_RECORD: Final = struct.Struct("!HHIH")
_REPLICA: Final = re.compile(r"[-_]([1-9]\d{0,3})$")
_ONE_OFF: Final = re.compile(r"[-_]run[-_][0-9a-f]{12}$")


@functools.cache
def replica_number() -> int | None:
    """The number of this container; None outside Compose, or if the engine does not tell."""
    with contextlib.suppress(OSError, ValueError):
        if f"nameserver {ENGINE_DNS[0]}" in RESOLVER_FILE.read_text().splitlines():
            return number_in(container_name())
    return None


def number_in(name: str) -> int | None:
    """2 for ``trading-strategy-2``; None for the container of a ``docker compose run``."""
    found = None if _ONE_OFF.search(name) else _REPLICA.search(name)
    return int(found[1]) if found else None


def container_name() -> str:
    """The engine's name for this container, found by its own address.

    Raises:
        OSError: no answer.
        ValueError: an answer without a name.
    """
    query = reverse_query(socket.gethostbyname(socket.gethostname()), secrets.randbits(16))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(ENGINE_DNS)
        connection.send(query)
        # The rest is the name of the network.
        return first_name(connection.recv(4096), query).partition(".")[0]


def reverse_query(address: str, query_id: int) -> bytes:
    """A DNS query for the name of an IPv4 address (RFC 1035, section 3.5)."""
    labels = ipaddress.IPv4Address(address).reverse_pointer.encode().split(b".")
    question = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    # One question; recursion desired.
    return _HEADER.pack(query_id, 0x0100, 1, 0, 0, 0) + question + struct.pack("!HH", PTR, INTERNET)


def first_name(answer: bytes, query: bytes) -> str:
    """The name in the first PTR record of the answer to ``query``.

    Raises:
        ValueError: it is another answer, an error, damaged, or has no such record.
    """
    try:
        query_id, flags, _, records, _, _ = _HEADER.unpack_from(answer)
        if query_id != _HEADER.unpack_from(query)[0] or not flags & 0x8000:
            raise ValueError("not an answer to this query")
        at = len(query)  # the answer repeats the question
        for _ in range(records):
            _, at = _name(answer, at)
            kind, _, _, size = _RECORD.unpack_from(answer, at)
            at += _RECORD.size
            if kind == PTR:
                return _name(answer, at)[0]
            at += size
    except (struct.error, IndexError) as error:
        raise ValueError(f"damaged answer: {error}") from error
    raise ValueError("no name in the answer")


def _name(message: bytes, at: int) -> tuple[str, int]:
    """The name at a position, and the position after it; follows pointers (section 4.1.4)."""
    labels: list[str] = []
    after, jumps = -1, 0
    while length := message[at]:
        if length >= 0xC0:
            after = at + 2 if after < 0 else after
            at = (length & 0x3F) << 8 | message[at + 1]
            jumps += 1
            if jumps > JUMPS_MAX:
                raise ValueError("a name that points to itself")
            continue
        labels.append(message[at + 1 : at + 1 + length].decode("ascii", "replace"))
        at += 1 + length
    return ".".join(labels), at + 1 if after < 0 else after
