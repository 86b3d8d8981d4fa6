"""What a process can be asked to do to itself: one JSON object in a datagram."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

REQUEST_BYTES_MAX: Final = 256
SECONDS_MAX: Final = 60.0

Seconds = Annotated[float, Meta(ge=0.1, le=SECONDS_MAX)]


class Kill(msgspec.Struct, tag_field="op", tag="kill", forbid_unknown_fields=True):
    """SIGKILL."""


class Freeze(msgspec.Struct, tag_field="op", tag="freeze", forbid_unknown_fields=True):
    """SIGSTOP, and SIGCONT after ``seconds``."""

    seconds: Seconds = 3.0


class Cut(msgspec.Struct, tag_field="op", tag="cut", forbid_unknown_fields=True):
    """Every TCP connection breaks, for ``seconds`` also each new one."""

    seconds: Seconds = 1.0


Fault = Kill | Freeze | Cut
FAULTS: Final = ("kill", "freeze", "cut")

_decoder: msgspec.json.Decoder[Fault] = msgspec.json.Decoder(Fault)


class BadRequest(Exception):
    """Not a request; the message says why."""


def make(op: str, seconds: float | None) -> Fault:
    """A fault by its name; None: its usual time.

    Raises:
        BadRequest: no such fault, or not for such a time.
    """
    return decode(
        msgspec.json.encode({"op": op} if seconds is None else {"op": op, "seconds": seconds})
    )


def encode(fault: Fault) -> bytes:
    """The datagram."""
    return msgspec.json.encode(fault)


def decode(data: bytes) -> Fault:
    """The fault in a datagram.

    Raises:
        BadRequest: it has none.
    """
    if len(data) > REQUEST_BYTES_MAX:
        raise BadRequest(f"over {REQUEST_BYTES_MAX} bytes")
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequest(str(error)) from None
