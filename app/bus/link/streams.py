"""The streams of the bus: made where they are missing, else checked.

Each has a bound of its own, which the broker sets aside when the stream is made: so no stream takes
the room of another.  What is full differs: a feed loses its oldest ticks, which have a source; of
orders, fills and controls nothing is ever removed, and the stream takes no more.
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import Final, NamedTuple, TypeVar

import nats.errors
from nats.js import api
from nats.js.errors import APIError, NotFoundError

from app.bus.link import names
from app.bus.link.access import Bounds
from app.bus.link.connection import (
    REQUEST_TIMEOUT_S,
    BusRefused,
    BusUnavailable,
    Link,
    no_jetstream,
)
from app.runtime.log import get_logger

log = get_logger()

ASK_AGAIN_S: Final = 1.0
"""Without an answer of a stream's leader: there may be another one by then."""
POLL_S: Final = 0.05
"""Between two looks at whether the broker has denied a request, which it never answers."""
NO_ROOM: Final = 10047
"""The broker's code: the bounds of all streams are more than it may store."""
UNAVAILABLE: Final = 503
"""Code of a server that has no majority for the moment."""
NO_JETSTREAM: Final = (
    "BUS_URL: JetStream is not enabled for this user's account: enable it in the broker"
)

SMALL_BYTES: Final = 16 << 20
"""Bound of the streams CONTROL and MAP: some 50,000 messages."""

T = TypeVar("T")
_CHECKED: Final = ("storage", "retention", "deny_delete", "deny_purge", "allow_direct")
_KEEPS: Final = api.DiscardPolicy.NEW
_DROPS_OLD: Final = api.DiscardPolicy.OLD


class Stream(NamedTuple):
    """A stream as we need it; ``bound``: which of :class:`Bounds` is its own, empty: neither."""

    name: str
    subjects: tuple[str, ...]
    bound: str = ""

    @property
    def discard(self) -> api.DiscardPolicy:
        """What happens when it is full."""
        return _DROPS_OLD if self.bound == "feed" else _KEEPS

    def config(self, replicas: int, bounds: Bounds) -> api.StreamConfig:
        """On files, up to its bound, and nobody deletes from it."""
        return api.StreamConfig(
            name=self.name,
            subjects=list(self.subjects),
            retention=api.RetentionPolicy.LIMITS,
            storage=api.StorageType.FILE,
            discard=self.discard,
            max_bytes=getattr(bounds, self.bound) if self.bound else SMALL_BYTES,
            num_replicas=replicas,
            duplicate_window=120,
            deny_delete=True,
            deny_purge=True,
            allow_direct=True,
        )


def md(shard: str) -> Stream:
    """Ticks of a shard."""
    return Stream(names.md_stream(shard), (names.md_subject(shard),), "feed")


def out(shard: str) -> Stream:
    """Orders and fills of a shard."""
    return Stream(
        names.out_stream(shard), (names.orders_subject(shard), names.fills_subject(shard)), "orders"
    )


def control() -> Stream:
    """Controls of all shards."""
    return Stream(names.CONTROL_STREAM, (names.control_subject("*"),))


def shard_map() -> Stream:
    """Versions of the shard map."""
    return Stream(names.MAP_STREAM, (names.MAP_SUBJECT,))


async def ensure(
    link: Link, stream: Stream, replicas: int, *, change: bool = False
) -> api.StreamInfo:
    """The stream, made now if it is missing; ``change``: its bound is that of the settings.

    Raises:
        BusRefused: it differs from what we need, or we may not make it.
        BusUnavailable: no answer; a later attempt may succeed.
    """
    name, wanted = stream.name, stream.config(replicas, link.bounds)
    try:
        info = await stream_info(link, name)
    except NotFoundError:
        make = link.js.add_stream(wanted)
        try:
            return await _done(link, stream, wanted, "CREATE", make)
        except BusRefused:
            if change or not link.denied(f"{link.api}.STREAM.CREATE.{name}"):
                raise
            raise BusUnavailable(
                f"there is no stream {name}, and this user may not make it: python -m app.bus "
                "setup SHARD... does"
            ) from None
    if problem := difference(stream, info.config, replicas):
        raise BusRefused(f"stream {name}: {problem}")
    found = info.config
    if change and (found.discard, found.max_bytes) != (wanted.discard, wanted.max_bytes):
        later = found.evolve(discard=wanted.discard, max_bytes=wanted.max_bytes)
        info = await _done(link, stream, wanted, "UPDATE", link.js.update_stream(later))
        log.info("stream_bounded", stream=name, was=found.max_bytes, bytes_max=wanted.max_bytes)
    elif found.discard != wanted.discard or (found.max_bytes or 0) <= 0:
        log.warning("stream_not_bounded", stream=name, fix="python -m app.bus setup SHARD...")
    return info


async def _done(
    link: Link,
    stream: Stream,
    wanted: api.StreamConfig,
    what: str,
    request: Awaitable[api.StreamInfo],
) -> api.StreamInfo:
    try:
        return await ask(link, f"STREAM.{what}.{stream.name}", request)
    except APIError as error:
        raise _not_made(stream, wanted, error) from None


def _not_made(stream: Stream, wanted: api.StreamConfig, error: APIError) -> Exception:
    text = f"{error.description} (code {error.err_code})"
    room = f"its bound of {wanted.max_bytes} bytes"
    if stream.bound:
        room += f" (BUS_{stream.bound.upper()}_BYTES_MAX)"
    if "replicas" in text or "no suitable peers" in text:
        # Also while the servers of a cluster have not found each other yet.
        replicas = wanted.num_replicas
        return BusUnavailable(
            f"stream {stream.name} with BUS_REPLICAS={replicas}: {text}; a cluster of at least "
            f"{replicas} servers can hold it, each with room for {room}"
        )
    if error.err_code == NO_ROOM:
        return BusRefused(
            f"stream {stream.name} cannot have {room}: {text}; set a lower one, or let the servers "
            "store more (max_file_store)"
        )
    return BusRefused(f"stream {stream.name} cannot be made: {text}")


def difference(stream: Stream, found: api.StreamConfig, replicas: int) -> str:
    """In what an existing stream is not what we need, and the remedy; empty if it is."""
    wanted = stream.config(replicas, Bounds(0, 0))
    if set(found.subjects or ()) != set(stream.subjects):
        got = ", ".join(found.subjects or ()) or "none"
        return f"has the subjects {got}, not {', '.join(stream.subjects)}: remove it, or rename it"
    if found.num_replicas != replicas:
        return (
            f"has {found.num_replicas} replicas and BUS_REPLICAS={replicas}: set BUS_REPLICAS="
            f"{found.num_replicas}, or change the stream with NATS's own tool"
        )
    pairs = ((name, _text(getattr(found, name)), _text(getattr(wanted, name))) for name in _CHECKED)
    wrong = [f"{name}={has}, not {wants}" for name, has, wants in pairs if has != wants]
    if stream.discard == _KEEPS != found.discard:
        wrong.append(f"discard={_text(found.discard)}, not {_text(_KEEPS)}")
    if not wrong:
        return ""
    return f"has {'; '.join(wrong)}: somebody else made it; remove it, or rename it"


def _text(value: object) -> str:
    return str(getattr(value, "value", value)).lower()


async def stream_info(link: Link, name: str) -> api.StreamInfo:
    """What the broker knows of a stream.  While it has no leader nobody answers, and a request that
    was sent then never is: so it is asked again and again.

    Raises:
        BusUnavailable, BusRefused, APIError: as :func:`ask`.
    """
    until_s = time.monotonic() + REQUEST_TIMEOUT_S
    while True:
        asked = asyncio.wait_for(link.js.stream_info(name), ASK_AGAIN_S)
        try:
            return await ask(link, f"STREAM.INFO.{name}", asked)
        except BusUnavailable:
            if link.lost.is_set() or time.monotonic() > until_s:
                raise


async def ask(link: Link, what: str, request: Awaitable[T]) -> T:
    """Await an answer of the broker's API to ``what``; say so if it will never come.

    Raises:
        BusRefused: the user may not ask that, or has no JetStream.
        BusUnavailable: no answer in time, or the connection is lost.
        APIError: the broker's own refusal.
    """
    subject, asked = f"{link.api}.{what}", asyncio.ensure_future(request)
    try:
        while True:
            done, _ = await asyncio.wait({asked}, timeout=POLL_S)
            if done:
                return asked.result()
            if link.denied(subject):
                raise BusRefused(
                    f"BUS_CREDS: the broker does not let this user ask {subject}: give the user "
                    "that permission, or take another one"
                )
            if link.lost.is_set():
                raise BusUnavailable(f"the connection is lost: {link.why}")
    except APIError as error:
        if no_jetstream(error):
            raise BusRefused(NO_JETSTREAM) from None
        if error.code == UNAVAILABLE:
            raise BusUnavailable(f"{subject}: {error.description}") from None
        raise
    except (nats.errors.Error, TimeoutError) as error:
        raise BusUnavailable(f"{subject}: {error or type(error).__name__}") from None
    finally:
        asked.cancel()
