"""Takes what the shard is asked for: ``control.<shard>``, in its order, each once."""

import asyncio
from typing import Final

import apsw
import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError

from app.bus.link import names
from app.bus.link.connection import BusRefused, BusUnavailable, Link
from app.bus.link.messages import ControlMessage, decode_control
from app.bus.link.streams import ask
from app.bus.outbox.bus_loss import BusLoss
from app.bus.outbox.mark_file import MarkFile
from app.bus.outbox.order_port import ACTIVE, HALTED, REASON_MAX, REDUCE, OrderPortError
from app.config.settings import Settings
from app.order_manager.store.schema import StoreError
from app.runtime.log import get_logger

log = get_logger()

MODES: Final = {"reduce": REDUCE, "halt": HALTED, "resume": ACTIVE}
ACK_WAIT_S: Final = 5.0
"""After which a control that was not acknowledged comes again: its publisher may have died."""
WAIT_S: Final = 5.0
RETRY_S: Final = 1.0


def consumer_name(shard: str) -> str:
    """The durable consumer of a shard's controls."""
    return f"{names.CONTROL_CONSUMER}{shard}"


async def ensure_consumer(link: Link, shard: str) -> None:
    """The shard's place in the stream of controls, made if it is missing: from the first one on.

    One control at a time, so that none overtakes another, redelivered or not.

    Raises:
        BusUnavailable: no answer, or it is missing and this user may not make it: ``setup`` does.
    """
    stream, name = names.CONTROL_STREAM, consumer_name(shard)
    subject = names.control_subject(shard)
    try:
        await ask(link, f"CONSUMER.INFO.{stream}.{name}", link.js.consumer_info(stream, name))
    except NotFoundError:
        config = api.ConsumerConfig(
            name=name,
            durable_name=name,
            filter_subject=subject,
            deliver_policy=api.DeliverPolicy.ALL,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_S,
            max_ack_pending=1,
            max_deliver=-1,
        )
        make = link.js.add_consumer(stream, config=config)
        what = f"CONSUMER.CREATE.{stream}.{name}.{subject}"
        try:
            await ask(link, what, make)
        except BusRefused:
            if not link.denied(f"{link.api}.{what}"):
                raise
            raise BusUnavailable(
                f"stream {stream} has no place for shard {shard}, and this user may not make it: "
                "python -m app.bus setup SHARD... does"
            ) from None


class Controls:
    """The controls of one shard."""

    def __init__(self, settings: Settings, marks: MarkFile, loss: BusLoss) -> None:
        self._settings, self._file, self._loss = settings, marks, loss
        self.taken = 0
        self.drained = asyncio.Event()
        """No control is waiting, here or with a publisher that died: what the bus says is known."""

    async def run(self, link: Link) -> None:
        """Take controls until the connection is lost.

        Trouble with this stream alone is no reason to give up the connection, which publishes.

        Raises:
            BusUnavailable: it is lost.
            BusRefused: this user may not read them.
        """
        self.drained.clear()
        place: JetStreamContext.PullSubscription | None = None
        said = ""
        while not link.lost.is_set():
            try:
                if place is None:
                    place = await self._place(link)
                (message,) = await place.fetch(1, timeout=WAIT_S if self.drained.is_set() else 0.5)
                await self._take(link, message)
            except (nats.errors.TimeoutError, TimeoutError):
                if not self.drained.is_set():
                    await self._look(link)
            except (BusUnavailable, nats.errors.Error, OSError) as error:
                if str(error) != said:
                    log.warning("controls_unavailable", reason=str(error))
                said = str(error)
                await asyncio.sleep(RETRY_S)
        raise BusUnavailable(f"the connection is lost: {link.why}")

    async def _look(self, link: Link) -> None:
        """Whether all have been taken: one may have been delivered to a publisher that died."""
        stream, name = names.CONTROL_STREAM, consumer_name(self._settings.shard)
        asked = link.js.consumer_info(stream, name)
        info = await ask(link, f"CONSUMER.INFO.{stream}.{name}", asked)
        if info.num_pending == info.num_ack_pending == 0:
            self.drained.set()

    async def _place(self, link: Link) -> JetStreamContext.PullSubscription:
        shard = self._settings.shard
        await ensure_consumer(link, shard)
        return await link.js.pull_subscribe_bind(
            durable=consumer_name(shard), stream=names.CONTROL_STREAM
        )

    async def _take(self, link: Link, message: Msg) -> None:
        try:
            control = decode_control(message.data)
        except ValueError as error:
            log.warning("control_refused", reason=str(error), subject=message.subject)
            await message.ack()
            return
        while not self._file.took(control.id):
            try:
                kept = await asyncio.to_thread(
                    self._loss.control, MODES[control.mode], _reason(control)
                )
            except (OrderPortError, StoreError, apsw.Error) as error:
                log.warning("control_waits", id=control.id, mode=control.mode, reason=str(error))
                if link.lost.is_set():
                    return  # it comes again over the next connection
                await message.in_progress()
                await asyncio.sleep(RETRY_S)
                continue
            self._file.take(control.id, control.mode, control.at_ns)
            self.taken += 1
            holds = kept or MODES[control.mode]
            log.info("control_taken", id=control.id, mode=control.mode, by=control.by, holds=holds)
        await message.ack()


def _reason(control: ControlMessage) -> str:
    """What the order manager stores."""
    tail = f" (control {control.id} by {control.by or '?'})"
    return (control.reason or control.mode)[: max(0, REASON_MAX - len(tail))] + tail
