"""A session on the bus: messages of a shard's stream are checked, recorded, then handed on.

The order is the promise: a message is in the recording before anybody sees its ticks, so after a
kill at any moment the stream is asked for what follows the last recorded message.
"""

import os
import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from app.config.bus import bus_source
from app.config.settings import Settings
from app.market_data.live.bus.batch import (
    BODY_BYTES_MAX,
    BatchError,
    Kind,
    Message,
    decode,
    decode_begin,
)
from app.market_data.live.bus.batch_log import BatchLog, Record
from app.market_data.live.bus.feed import BusFeed
from app.market_data.live.bus.intake import ROOM, BatchIntake, Gap, Unusable
from app.market_data.live.exchange.supervised import ReceiverDied, SupervisedReceiver
from app.market_data.live.tick_log import RecordingFull
from app.runtime.lifecycle import FatalError
from app.runtime.log import get_logger

log = get_logger()

BATCH_MARK: Final = b"B"
HEADERS_BYTES_MAX: Final = 4096
GAPS_MAX: Final = 3
"""Requests for the same message, before its stream is taken for one that has lost it."""
_HEAD: Final = struct.Struct("<QI")
_HEADERS: Final = msgspec.json.Decoder(dict[str, str])


class BusRequest(msgspec.Struct, frozen=True):
    """What the receiver is asked for: messages of ``run`` (empty: the last begun) of a shard.

    ``after``: place in the stream of the last one that is recorded; 0: from the first on.
    ``parent``: the process id of who asks.
    """

    shard: str
    run: str
    after: int
    parent: int


class Packet(NamedTuple):
    """One message of the stream, as the receiver passes it on."""

    place: int
    headers: Mapping[str, str]
    body: bytes


def encode_packet(packet: Packet) -> bytes:
    """The bytes that :func:`decode_packet` reads."""
    headers = msgspec.json.encode(packet.headers)
    return BATCH_MARK + _HEAD.pack(packet.place, len(headers)) + headers + packet.body


def decode_packet(data: bytes) -> Packet:
    """What is in a packet.

    Raises:
        BatchError: no receiver sends this.
    """
    start = 1 + _HEAD.size
    try:
        place, size = _HEAD.unpack(data[1:start])
        headers = _HEADERS.decode(data[start : start + size])
    except (struct.error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BatchError(f"packet of the receiver: {error}") from None
    return Packet(place, headers, data[start + size :])


class BusSession(SupervisedReceiver):
    """Starts the receiver and takes what it sends.

    Before the run has begun there is no feed: :meth:`first` waits for the message that begins it.
    """

    module = "app.bus.feed.receiver"
    packet_bytes_max = BODY_BYTES_MAX + HEADERS_BYTES_MAX + 64

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings, self.source = settings, bus_source(settings)
        self._log: BatchLog | None = None
        self._feed: BusFeed | None = None
        self._intake = BatchIntake()
        self._unread: list[bytes] = []
        self._wanted, self._gaps = 0, 0

    @property
    def ended(self) -> bool:
        """Whether the run has no more messages."""
        return self._intake.ended

    @property
    def waiting(self) -> bool:
        """Whether there are packets that were read and not used yet."""
        return bool(self._unread)

    @property
    def flows(self) -> bool:
        """Whether prices are current: after the end there are none to wait for."""
        return self.ended or super().flows

    def follow(self, feed: BusFeed) -> None:
        """Record for this feed, from its last message on."""
        self._feed, self._log, self._intake = feed, feed.batches, feed.intake

    def request(self) -> bytes:
        """What the receiver is asked for."""
        run = self._intake.run or self.source.run
        request = BusRequest(self.source.shard, run, self._intake.place, os.getpid())
        return msgspec.json.encode(request)

    def environment(self) -> dict[str, str]:
        """The receiver connects with the same settings."""
        return self._settings.to_environ()

    def accept(self, packet: bytes, packets: list[bytes]) -> bool:
        """Messages of the stream are passed on."""
        if packet.startswith(BATCH_MARK):
            packets.append(packet)
            return True
        return False

    def first(self) -> Record | None:
        """The message that begins the run; None: not yet.

        Raises:
            ReceiverDied: call :meth:`restart`.
            FatalError: the stream does not hold what a sequencer sends.
        """
        packets, died = self._packets()
        self._unread += packets
        if self._unread:
            packet = self._decoded(self._unread.pop(0))
            message = self._checked(packet)
            if not self._wants(packet.place, message):
                return None
            try:
                decode_begin(message)
            except BatchError as error:
                raise self._fatal(str(error)) from None
            return Record(packet.place, message)
        if died:
            raise ReceiverDied
        return None

    def take(self) -> int | None:
        """Record what has arrived, and let the feed grow; returns the messages, None for none.

        Raises:
            ReceiverDied: call :meth:`restart`.
            FatalError: the stream does not hold what a sequencer sends.
        """
        died = False
        if not self._unread:
            if self._broken:
                raise ReceiverDied
            self._unread, died = self._packets()
        count = 0
        while self._unread and not self._broken:
            if not self._apply(self._decoded(self._unread[0])):
                break
            self._unread.pop(0)
            count += 1
        if self._broken:
            self._unread = []
        if died and not count and self.writable:
            raise ReceiverDied
        return count or None

    def _decoded(self, packet: bytes) -> Packet:
        try:
            return decode_packet(packet)
        except BatchError as error:
            raise self._fatal(str(error)) from None

    def _checked(self, packet: Packet) -> Message:
        try:
            return decode(packet.headers, packet.body)
        except BatchError as error:
            raise self._fatal(f"message {packet.place}: {error}") from None

    def _apply(self, packet: Packet) -> bool:
        """Whether the message is done with; False: it cannot be written, and waits."""
        assert self._feed is not None
        assert self._log is not None
        message = self._checked(packet)
        if not self._wants(packet.place, message):
            return True
        record = Record(packet.place, message)
        try:
            checked = self._feed.check(record)
        except BatchError as error:
            raise self._fatal(f"message {packet.place}: {error}") from None
        try:
            self._log.write([record])
        except RecordingFull as error:
            self._say_full(error)
            return False
        if not self.writable:
            log.info("live_recorded_again", path=str(self._log.path))
        self.writable = True
        self._feed.apply(record, checked)
        self._say(message)
        return True

    def _wants(self, place: int, message: Message) -> bool:
        repeated = self._intake.repeated
        try:
            wanted = self._intake.wants(place, message)
        except Unusable as error:
            raise self._fatal(str(error)) from None
        except Gap as gap:
            self._ask_again(gap)
            return False
        self.counts["live_repeated"] += self._intake.repeated - repeated
        return wanted

    def _ask_again(self, gap: Gap) -> None:
        """The stream keeps what it has acknowledged, so a gap is one of the delivery."""
        self.counts["live_gaps"] += 1
        self.counts["live_missing"] += gap.got - gap.wanted
        self._gaps = self._gaps + 1 if gap.wanted == self._wanted else 1
        self._wanted = gap.wanted
        if self._gaps >= GAPS_MAX:
            raise self._fatal(
                f"message {gap.wanted} of run {self._intake.run} is not in the stream any more, "
                f"but {gap.got} is: {ROOM}"
            )
        self._warn("bus_gap", wanted=gap.wanted, got=gap.got, action="asking again")
        self._end_receiver()

    def _say(self, message: Message) -> None:
        if message.kind is Kind.MAP:
            log.info("bus_map", version=message.map_version, seq=message.seq_first)
        elif message.kind is Kind.END:
            log.info("bus_run_ended", run=message.run, ticks=message.seq_first)

    def _say_full(self, error: RecordingFull) -> None:
        if self.writable:
            mend = "make room; the market goes on by itself"
            path, reason = str(self._log.path if self._log else ""), error.strerror or str(error)
            log.error("live_not_recorded", path=path, reason=reason, mend=mend)
        self.writable = False

    def _fatal(self, problem: str) -> FatalError:
        return FatalError(f"md.{self.source.shard}: {problem}", final=True)

    def respawn(self, now_s: float) -> int | None:
        """Start the receiver again if it is due, and there is more to come."""
        return None if self.ended else super().respawn(now_s)
