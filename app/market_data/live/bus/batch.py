"""The messages of a shard's stream ``md.<shard>``: batches of ticks, and marks among them.

A message is headers and a body.  Every message has ``Kind``, ``Run``, ``Map-Version``,
``Seq-First`` (the shard's next tick), ``Seq-Count`` (ticks in it) and ``Source-Next`` (the next
tick of the whole feed); all but the first of a run have ``Run-Begin``, the place of that in the
stream, and ``Sequencer`` names the process that has published it.

=========  ======  ==============================================================================
``Kind``   ticks   body
=========  ======  ==============================================================================
``begin``  none    JSON, :class:`Begin`: the run's first message
``ticks``  some    ``Price-Bytes`` of frames as on the price port, then sentiments as on the
                   sentiment port: ``SEQ|k*`` says that what follows is due with tick ``k``
``map``    none    empty: ``Map-Version`` holds from here on
``end``    none    empty: the run has no more ticks
=========  ======  ==============================================================================

No I/O here.
"""

import enum
import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from app.kernel._kernel import PARSE_SLACK_BYTES, FieldParser, parse_sentiments, parse_ticks
from app.market_data.ragged import Ints
from app.model.symbols import symbol_problem
from app.model.tick import TICK_DTYPE

TICKS_MAX: Final = 2048
"""Ticks of one message."""
BODY_BYTES_MAX: Final = 160 * 1024
"""Fits into one packet to the gateway, and below the broker's ``max_payload`` of 1 MB."""
FRAME_BYTES_MAX: Final = 96
"""A time of 30 bytes, a symbol of 32, a price of 20, three delimiters."""
RUN_BEGIN: Final = "Run-Begin"
SEQUENCER: Final = "Sequencer"
NUMBER_MAX: Final = 1 << 53
SYMBOLS_MAX: Final = 60_000
RUN: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
SHARD: Final = re.compile(r"[a-z0-9-]{1,32}")
_NUMBER: Final = re.compile(r"[0-9]{1,16}")
_MARK: Final = re.compile(rb"SEQ\|[0-9]+\*")
_STAR: Final = ord("*")

Ticks = npt.NDArray[np.void]


class BatchError(Exception):
    """A message that no sequencer of this build sends; the text says what is wrong with it."""


class Kind(enum.StrEnum):
    """What a message is."""

    BEGIN = "begin"
    TICKS = "ticks"
    MAP = "map"
    END = "end"


class Begin(msgspec.Struct, frozen=True):
    """What a run is: ``symbols`` are those of the whole map, so a move needs no new list.

    ``feed_id`` names the feed that is divided.
    """

    run: str
    shard: str
    symbols: list[str]
    feed_id: str
    format: Literal[1] = 1


class Message(NamedTuple):
    """One message; the module describes its fields."""

    kind: Kind
    run: str
    map_version: int
    seq_first: int
    ticks: int
    source_next: int
    body: bytes = b""
    price_bytes: int = 0

    @property
    def seq_end(self) -> int:
        """The shard's next tick after this message."""
        return self.seq_first + self.ticks


def encode(message: Message) -> dict[str, str]:
    """The headers of a message; its body goes as it is."""
    headers = {
        "Kind": message.kind.value,
        "Run": message.run,
        "Map-Version": str(message.map_version),
        "Seq-First": str(message.seq_first),
        "Seq-Count": str(message.ticks),
        "Source-Next": str(message.source_next),
    }
    if message.kind is Kind.TICKS:
        headers["Price-Bytes"] = str(message.price_bytes)
    return headers


def decode(headers: Mapping[str, str] | None, body: bytes) -> Message:
    """The message of these headers and this body; its frames are not read yet.

    Raises:
        BatchError: a header is missing or malformed, or contradicts the body.
    """
    headers = headers or {}
    try:
        kind = Kind(headers.get("Kind", ""))
    except ValueError:
        raise BatchError(
            f"Kind {headers.get('Kind', '')[:40]!r}: begin, ticks, map or end"
        ) from None
    run = headers.get("Run", "")
    if not RUN.fullmatch(run):
        raise BatchError(f"Run {run[:40]!r}: 1 to 64 of A-Z a-z 0-9 _ . -")
    names = ("Map-Version", "Seq-First", "Seq-Count", "Source-Next")
    version, first, count, source_next = (_number(headers, name) for name in names)
    if len(body) > BODY_BYTES_MAX:
        raise BatchError(f"body of {len(body)} bytes, at most {BODY_BYTES_MAX}")
    if kind is Kind.TICKS:
        price_bytes = _number(headers, "Price-Bytes")
        if not 1 <= count <= TICKS_MAX:
            raise BatchError(f"Seq-Count {count}: 1 to {TICKS_MAX} ticks")
        if price_bytes > len(body):
            raise BatchError(f"Price-Bytes {price_bytes}: the body has {len(body)} bytes")
        return Message(kind, run, version, first, count, source_next, body, price_bytes)
    if count or (kind is not Kind.BEGIN and body):
        raise BatchError(f"a message of kind {kind} has no ticks")
    return Message(kind, run, version, first, 0, source_next, body)


def _number(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name, "")
    if not _NUMBER.fullmatch(text) or int(text) > NUMBER_MAX:
        raise BatchError(f"{name} {text[:40]!r}: a number from 0 to {NUMBER_MAX}")
    return int(text)


def decode_begin(message: Message) -> Begin:
    """The body of the first message of a run.

    Raises:
        BatchError: it is none.
    """
    if message.kind is not Kind.BEGIN:
        raise BatchError(f"the first message of run {message.run} is of kind {message.kind}")
    try:
        begin = msgspec.json.decode(message.body, type=Begin)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BatchError(f"body of the run's first message: {error}") from None
    names = begin.symbols
    if begin.run != message.run or not SHARD.fullmatch(begin.shard):
        raise BatchError(f"first message of run {message.run}: it names run or shard wrongly")
    if not names or len(set(names)) != len(names) or len(names) > SYMBOLS_MAX:
        raise BatchError(f"first message of run {message.run}: symbols missing, twice or too many")
    for name in names:
        if problem := symbol_problem(name.encode()):
            raise BatchError(f"first message of run {message.run}: {problem}")
    return begin


def encode_begin(begin: Begin) -> bytes:
    """The body of the first message of a run."""
    return msgspec.json.encode(begin)


def frame_ends(frames: bytes | memoryview) -> Ints:
    """Where each ``time*symbol*value*`` ends."""
    return np.flatnonzero(np.frombuffer(frames, np.uint8) == _STAR)[2::3] + 1


class Sentiments(NamedTuple):
    """The sentiments of a message: ``frames`` without marks; ``ticks`` have symbol and due tick."""

    frames: bytes
    ticks: Ticks


class BatchReader:
    """Reads and checks the frames of messages; symbols are numbered as in ``symbols``."""

    def __init__(self, symbols: list[str]) -> None:
        self._parser = FieldParser(symbols)

    def ticks(self, message: Message) -> Ticks:
        """Time, symbol, price and number of each tick, as ``TICK_DTYPE``.

        Raises:
            BatchError: there are others than ``Seq-Count`` well-formed ticks in order of time.
        """
        out = np.zeros(message.ticks, TICK_DTYPE)
        data = message.body[: message.price_bytes]
        buffer = bytearray(data + bytes(PARSE_SLACK_BYTES))
        found, at, _ = parse_ticks(self._parser, buffer, 0, len(data), out, message.seq_first)
        if found < message.ticks or at < len(data):
            raise BatchError(
                f"tick {message.seq_first + found} is malformed, or of an unknown symbol: "
                f"{bytes(data[at : at + 40])!r}"
            )
        if (np.diff(out["event_ns"]) < 0).any():
            raise BatchError(f"the times of ticks from {message.seq_first} on go back")
        if np.diff(frame_ends(data), prepend=0).max() > FRAME_BYTES_MAX:
            raise BatchError(f"a tick of over {FRAME_BYTES_MAX} bytes from {message.seq_first} on")
        return out

    def sentiments(self, message: Message) -> Sentiments:
        """The sentiments, in stream order; each is due with a tick of the message.

        Raises:
            BatchError: one of them is malformed, or due with another tick.
        """
        data = message.body[message.price_bytes :]
        frames = _MARK.sub(b"", data)
        count = frames.count(b"*") // 3
        out = np.zeros(count, TICK_DTYPE)
        buffer = bytearray(data + bytes(PARSE_SLACK_BYTES))
        found, at, *_ = parse_sentiments(self._parser, buffer, 0, len(data), out, message.seq_first)
        if found < count or at < len(data):
            raise BatchError(f"malformed sentiment: {bytes(data[at : at + 40])!r}")
        if count and int(out["seq"][-1]) >= message.seq_end:
            raise BatchError(f"a sentiment is due with tick {out['seq'][-1]}, which comes later")
        return Sentiments(frames, out)
