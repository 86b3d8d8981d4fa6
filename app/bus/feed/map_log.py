"""The stream ``MAP``: the versions of the shard map, and from which tick of a run each holds.

Two kinds of messages: a version of the map (``python -m app.bus move`` appends one, or a sequencer
that finds a later one in SHARD_MAP), and a start: version, run, tick of the feed, from the run's
sequencer.  Each is appended with the number of the last message that its writer knew, so of two
writers one reads again.  The last start of a version counts.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from nats.js.errors import APIError, NotFoundError

from app.bus.feed.split import Change
from app.bus.link import names
from app.bus.link.connection import BusRefused, BusUnavailable, Link
from app.bus.link.streams import ask
from app.bus.shard_map import MapError, ShardMap, parse

KIND: Final = "Kind"
WRONG_LAST: Final = 10071
"""The broker's code: the stream does not end with the expected number."""
_GET: Final = f"STREAM.MSG.GET.{names.MAP_STREAM}"


class Conflict(Exception):
    """Somebody else has appended meanwhile: read on, and decide again."""


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """In ``run``, whose feed is ``feed_id``, ``version`` holds from tick ``at`` of the feed on."""

    run: str
    version: int
    at: int
    feed_id: str


class MapLog:
    """What the stream has; ``place`` is that of its last message, 0 without any."""

    def __init__(self) -> None:
        self.place = 0
        self.maps: dict[int, ShardMap] = {}
        self.starts: list[Start] = []

    def take(self, place: int, headers: Mapping[str, str] | None, body: bytes) -> None:
        """The next message.

        Raises:
            MapError: no version of this build can have written it.
        """
        kind = (headers or {}).get(KIND)
        if kind == "map":
            found = parse(body)
            if found.version in self.maps:
                raise MapError(f"message {place} of stream MAP: version {found.version} twice")
            self.maps[found.version] = found
        elif kind == "start":
            try:
                start = msgspec.json.decode(body, type=Start)
            except msgspec.MsgspecError as error:
                raise MapError(f"message {place} of stream MAP: {error}") from None
            if start.version not in self.maps or start.at < 0:
                raise MapError(f"message {place} of stream MAP: no such version or tick")
            self.starts.append(start)
        else:
            raise MapError(f"message {place} of stream MAP: kind {kind!r}: map or start")
        self.place = place

    @property
    def latest(self) -> ShardMap | None:
        """The latest version."""
        return self.maps[max(self.maps)] if self.maps else None

    @property
    def last_run(self) -> Start | None:
        """The start of the run that was begun last."""
        return next((each for each in reversed(self.starts) if each.at == 0), None)

    def history(self, run: str) -> list[Change]:
        """The map history of a run; empty: it has not begun."""
        found = {each.version: each.at for each in self.starts if each.run == run}
        return [Change(at, self.maps[version]) for version, at in sorted(found.items())]


async def read_on(link: Link, log: MapLog) -> None:
    """Read what was appended since the last time.

    Raises:
        BusUnavailable, BusRefused: the stream cannot be read, or holds something else.
    """
    stream = names.MAP_STREAM
    try:
        last = await ask(link, _GET, link.js.get_last_msg(stream, names.MAP_SUBJECT))
        for place in range(log.place + 1, (last.seq or 0) + 1):
            message = await ask(link, _GET, link.js.get_msg(stream, place))
            log.take(place, message.headers, message.data or b"")
    except NotFoundError:
        return
    except MapError as error:
        raise BusRefused(str(error)) from None


async def append_map(link: Link, log: MapLog, found: ShardMap) -> None:
    """Append a version of the map.

    Raises:
        Conflict: something else was appended meanwhile.
        BusUnavailable, BusRefused: it cannot be written, or may have been.
    """
    await _append(link, log, "map", found.encoded())


async def append_start(link: Link, log: MapLog, start: Start) -> None:
    """Append from when on a version holds.

    Raises:
        Conflict, BusUnavailable, BusRefused: as :func:`append_map`.
    """
    await _append(link, log, "start", msgspec.json.encode(start))


async def _append(link: Link, log: MapLog, kind: str, body: bytes) -> None:
    headers = {KIND: kind, names.EXPECTED_LAST_SEQ: str(log.place)}
    subject = names.MAP_SUBJECT
    try:
        await ask(link, "", link.js.publish(subject, body, headers=headers))
    except APIError as error:
        if error.err_code == WRONG_LAST:
            raise Conflict from None
        raise BusRefused(f"stream MAP: {error.description}") from None
    except BusUnavailable:
        if link.denied(subject):
            raise BusRefused(f"BUS_CREDS: this user may not send to {subject}") from None
        raise
    finally:
        await read_on(link, log)
