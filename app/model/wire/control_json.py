"""Requests on the gateway's control port: JSON in, checked objects out.

Each is an object with a member ``op``; a member that its request does not have is refused.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from app.model.timestamps import parse_timestamp

TICKS_MAX: Final = 10**15
Ticks = Annotated[int, Meta(ge=1, le=TICKS_MAX)]
Seq = Annotated[int, Meta(ge=0, le=TICKS_MAX)]


class Request(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag=str.lower):
    """Any of those below."""


class Auth(Request):
    """The token of an operator."""

    token: str


class Ping(Request):
    """Whether the gateway answers."""


class Status(Request):
    """What the market does."""


class Pause(Request):
    """Stand still."""


class Resume(Request):
    """Play."""


class Step(Request):
    """Stand still, ``ticks`` ticks later."""

    ticks: Ticks = 1


class Speed(Request):
    """Play at another pace, written as the setting PACE."""

    pace: str


class Seek(Request):
    """Jump to a tick, or to the first tick of a time or later; one of the two."""

    tick: Seq | None = None
    time: str | None = None

    def __post_init__(self) -> None:
        """Check that there is one place."""
        if (self.tick is None) == (self.time is None):
            raise ValueError("needs 'tick' or 'time', and not both")


class BadRequest(ValueError):
    """Not a request; the message says why."""


_decode: Final = msgspec.json.Decoder(
    Auth | Ping | Status | Pause | Resume | Step | Speed | Seek
).decode


def parse_request(frame: bytes) -> Request:
    """The request in a frame.

    Raises:
        BadRequest: it is none.
    """
    try:
        request: Request = _decode(frame)
        return request
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(str(error)) from None


def event_ns_of(text: str) -> int:
    """The time of a :class:`Seek`, in any form that a data file may have.

    Raises:
        BadRequest: it is none.
    """
    try:
        return parse_timestamp(text.encode())[0]
    except ValueError as error:
        raise BadRequest(
            f"time={text[:40]}: {error}; write it as in the data, e.g. 2025-10-01 09:30:00"
        ) from None
