"""What the receiver is asked for, and what it tells besides trades."""

from typing import Final

import msgspec

TRADES_MARK: Final = b"T"
EVENT_MARK: Final = b"J"
"""First byte of what the receiver sends: then follow trades, or one event as JSON."""
PACKET_BYTES_MAX: Final = 1 << 16


class Request(msgspec.Struct, frozen=True):
    """``parent``: the process id of who asks.  The rest is made of the settings of these names."""

    url: str
    map: str
    symbols: list[str]
    subscribe: str
    ca_file: str
    ping_s: float
    reconnect_ms: int
    reconnect_ms_max: int
    parent: int


class Connected(msgspec.Struct, frozen=True, tag="connected"):
    """The exchange has accepted the connection."""

    url: str


class Waiting(msgspec.Struct, frozen=True, tag="waiting"):
    """The pause is over: it tries to connect."""


class Lost(msgspec.Struct, frozen=True, tag="lost"):
    """There is no connection; the next attempt follows after a pause."""

    reason: str
    pause_s: float


class Noticed(msgspec.Struct, frozen=True, tag="noticed"):
    """How many trades were refused, and messages without trades, with the first of each."""

    refused: int
    refused_text: str
    others: int
    other_text: str


Event = Connected | Waiting | Lost | Noticed

_DECODER: Final = msgspec.json.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """The event as JSON."""
    return msgspec.json.encode(event)


def decode_event(data: bytes) -> Event:
    """The event in :func:`encode_event`'s bytes."""
    event: Event = _DECODER.decode(data)
    return event
