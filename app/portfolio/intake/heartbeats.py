"""What the publishers of the shards say of themselves, once a second.

The lag that the portfolio sees by itself is what a stream has and the books have not.  A shard that
is dead, or cut off from the bus, has no such lag: its stream has nothing new.  Its heartbeats stop,
though, or say that the store has more than the stream.  They are in no stream: whoever chooses a
leader, or is full, holds up none of them.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import msgspec
import nats.errors
from nats.aio.msg import Msg

from app.bus.link import names
from app.bus.link.connection import BusUnavailable, Link
from app.bus.link.messages import Heartbeat
from app.runtime.log import get_logger

log = get_logger()

SUBJECT: Final = names.heartbeat_subject("*")
LATE_S: Final = 5.0
"""Without a heartbeat for so long, a shard counts as silent."""
LOOK_S: Final = 1.0


class Heartbeats:
    """The latest of each shard; times are those of CLOCK_MONOTONIC."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._since_s: float | None = None
        """Since when one is listened for; None: nobody listens, or may."""
        self._heard: dict[str, tuple[float, Heartbeat]] = {}

    async def listen(self, link: Link) -> None:
        """Listen until the connection is lost.

        Raises:
            BusUnavailable: it is.
        """
        try:
            await link.client.subscribe(SUBJECT, cb=self._on_message)
        except nats.errors.Error as error:
            raise BusUnavailable(str(error)) from None
        self.begin()
        while not (link.lost.is_set() or link.denied(SUBJECT)):
            await asyncio.sleep(LOOK_S)
        if link.denied(SUBJECT):
            log.warning("heartbeats_closed", subject=SUBJECT, fix="images/cluster/accounts.py")
            self._since_s = None
        await link.lost.wait()
        raise BusUnavailable(link.why)

    def begin(self) -> None:
        """From now on heartbeats are heard, if there are any."""
        if self._since_s is None:
            self._since_s = self._clock_s()

    async def _on_message(self, message: Msg) -> None:
        self.take(message.subject.rpartition(".")[2], message.data)

    def take(self, shard: str, data: bytes) -> None:
        """A heartbeat; what is none, or of no shard, is passed over."""
        try:
            self._heard[names.check_shard(shard)] = (
                self._clock_s(),
                msgspec.json.decode(data, type=Heartbeat),
            )
        except (ValueError, msgspec.DecodeError):
            return

    def age_s(self, shard: str) -> float | None:
        """Since the last one, or since one is listened for; None: nobody listens."""
        if self._since_s is None:
            return None
        heard_s = self._heard[shard][0] if shard in self._heard else self._since_s
        return self._clock_s() - heard_s

    def lag_s(self, shard: str) -> float:
        """For how long the stream does not have all that the shard's store has, as far as is known:
        how long the shard is silent, or what it has said itself."""
        age_s = self.age_s(shard)
        if age_s is None:
            return 0.0
        said_s = self._heard[shard][1].lag_s if shard in self._heard else 0.0
        return said_s + age_s if age_s > LATE_S else said_s
