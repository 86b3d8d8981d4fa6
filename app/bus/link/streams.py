"""The streams of the bus: made where they are missing, else checked."""

import asyncio
from collections.abc import Awaitable
from typing import Final, NamedTuple, TypeVar

import nats.errors
from nats.js import api
from nats.js.errors import APIError, NotFoundError

from app.bus.link import names
from app.bus.link.connection import BusRefused, BusUnavailable, Link, no_jetstream

POLL_S: Final = 0.05
"""Between two looks at whether the broker has denied a request, which it never answers."""
NO_JETSTREAM: Final = (
    "BUS_URL: JetStream is not enabled for this user's account: enable it in the broker"
)

T = TypeVar("T")
_CHECKED: Final = ("storage", "retention", "discard", "deny_delete", "deny_purge", "allow_direct")


class Stream(NamedTuple):
    """A stream as we need it."""

    name: str
    subjects: tuple[str, ...]

    def config(self, replicas: int) -> api.StreamConfig:
        """On files, without end, and nobody deletes from it; when it is full it takes no more."""
        return api.StreamConfig(
            name=self.name,
            subjects=list(self.subjects),
            retention=api.RetentionPolicy.LIMITS,
            storage=api.StorageType.FILE,
            discard=api.DiscardPolicy.NEW,
            num_replicas=replicas,
            duplicate_window=120,
            deny_delete=True,
            deny_purge=True,
            allow_direct=True,
        )


def md(shard: str) -> Stream:
    """Ticks of a shard."""
    return Stream(names.md_stream(shard), (names.md_subject(shard),))


def out(shard: str) -> Stream:
    """Orders and fills of a shard."""
    return Stream(
        names.out_stream(shard), (names.orders_subject(shard), names.fills_subject(shard))
    )


def control() -> Stream:
    """Controls of all shards."""
    return Stream(names.CONTROL_STREAM, (names.control_subject("*"),))


def shard_map() -> Stream:
    """Versions of the shard map."""
    return Stream(names.MAP_STREAM, (names.MAP_SUBJECT,))


async def ensure(link: Link, stream: Stream, replicas: int) -> api.StreamInfo:
    """The stream, made now if it is missing.

    Raises:
        BusRefused: it differs from what we need, or we may not make it.
        BusUnavailable: no answer; a later attempt may succeed.
    """
    try:
        info = await ask(link, f"STREAM.INFO.{stream.name}", link.js.stream_info(stream.name))
    except NotFoundError:
        config = stream.config(replicas)
        make = link.js.add_stream(config)
        try:
            info = await ask(link, f"STREAM.CREATE.{stream.name}", make)
        except APIError as error:
            raise _not_made(stream, replicas, error) from None
    if problem := difference(stream, info.config, replicas):
        raise BusRefused(f"stream {stream.name}: {problem}")
    return info


def _not_made(stream: Stream, replicas: int, error: APIError) -> Exception:
    text = f"{error.description} (code {error.err_code})"
    if "replicas" in text or "no suitable peers" in text:
        # Also while the servers of a cluster have not found each other yet.
        return BusUnavailable(
            f"stream {stream.name} with BUS_REPLICAS={replicas}: {text}; a cluster of at least "
            f"{replicas} servers can hold it"
        )
    if error.code == 503:
        return BusUnavailable(f"stream {stream.name}: {text}")
    return BusRefused(f"stream {stream.name} cannot be made: {text}")


def difference(stream: Stream, found: api.StreamConfig, replicas: int) -> str:
    """In what an existing stream is not what we need, and the remedy; empty if it is."""
    wanted = stream.config(replicas)
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
    if not wrong:
        return ""
    return f"has {'; '.join(wrong)}: somebody else made it; remove it, or rename it"


def _text(value: object) -> str:
    return str(getattr(value, "value", value)).lower()


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
        raise
    except (nats.errors.Error, TimeoutError) as error:
        raise BusUnavailable(f"{subject}: {error or type(error).__name__}") from None
    finally:
        asked.cancel()
