"""Reads one subject of a stream from a sequence on, in order and without gaps.

A pull consumer that nobody acknowledges: what has been read is known here, from the caller's own
state, not from the broker.  Messages are handed over in the order of the stream, and none is left
out: each carries the consumer's own count, and a count that jumps ends the reader.  Whoever reads
begins a new one behind the last message that it has stored.
"""

import asyncio
import contextlib
import json
import secrets
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final, NamedTuple

import nats.errors
from nats.aio.msg import Msg
from nats.js import api
from nats.js.errors import APIError

from app.bus.link.connection import BusUnavailable, Link
from app.bus.link.names import MARKS
from app.bus.link.streams import ask
from app.portfolio.service import Message

BATCH: Final = 1000
"""Messages asked for at a time, and the most that are handed over together."""
EXPIRES_S: Final = 5.0
HEARTBEAT_S: Final = 1.0
"""The broker says so often that it has nothing."""
SILENCE_S: Final = 3.5
"""Without a message or a heartbeat for so long, the consumer is gone."""
UNUSED_S: Final = 30.0
"""The broker removes a consumer that nobody reads from after so long."""
HEARTBEAT, EXPIRED = "100", "408"


class Batch(NamedTuple):
    """Messages in order, none if the broker has only said that it lives; ``pending``: how many
    more the stream has for this reader now."""

    messages: list[Message]
    pending: int


class Reader:
    """One consumer; :meth:`batches` ends with an error, never by itself."""

    def __init__(self, link: Link, stream: str, subject: str, after_seq: int) -> None:
        """Reads what comes after ``after_seq``."""
        self._link, self._stream, self._subject = link, stream, subject
        self._after_seq = after_seq
        self._name = f"portfolio-{secrets.token_hex(6)}"
        self._inbox = link.client.new_inbox()
        self._arrived: deque[Msg] = deque()
        self._wake = asyncio.Event()
        self._count = 0
        """Of messages, as the consumer counts them."""
        self._wanted = 0
        """Messages that the open request may still bring."""

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """What the stream has, and then what comes, as it comes.

        Raises:
            BusUnavailable: the connection or the consumer is gone, or a message was left out.
            BusRefused: this user may not read the stream.
        """
        client = self._link.client
        heard = await client.subscribe(self._inbox, cb=self._on_message)
        try:
            pending = await self._open()
            yield Batch([], pending)
            while True:
                if self._wanted <= 0:
                    await self._request()
                messages = await self._next()
                if messages:
                    pending = messages[-1].metadata.num_pending or 0
                yield Batch([self._checked(each) for each in messages], pending)
        finally:
            # Ignore: a lost connection has none.  The broker removes the consumer by itself.
            with contextlib.suppress(nats.errors.Error, OSError):
                await heard.unsubscribe()

    async def _on_message(self, message: Msg) -> None:
        self._arrived.append(message)
        self._wake.set()

    async def _open(self) -> int:
        config = api.ConsumerConfig(
            name=self._name,
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._after_seq + 1,
            filter_subject=self._subject,
            ack_policy=api.AckPolicy.NONE,
            inactive_threshold=UNUSED_S,
            mem_storage=True,
            num_replicas=1,
        )
        what = f"CONSUMER.CREATE.{self._stream}.{self._name}.{self._subject}"
        made = self._link.js.add_consumer(self._stream, config)
        try:
            info = await ask(self._link, what, made)
        except APIError as error:
            raise BusUnavailable(f"{self._stream}: {error.description}") from None
        return info.num_pending or 0

    async def _request(self) -> None:
        self._wanted = BATCH
        request = {
            "batch": BATCH,
            "expires": int(EXPIRES_S * 1e9),
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
        }
        subject = f"{self._link.api}.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
        try:
            await self._link.client.publish(subject, json.dumps(request).encode(), self._inbox)
        except nats.errors.Error as error:
            raise BusUnavailable(str(error)) from None

    async def _next(self) -> list[Msg]:
        """What has arrived; waits for something."""
        if not self._arrived:
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), SILENCE_S)
            except TimeoutError:
                raise BusUnavailable(f"{self._stream}: silent for {SILENCE_S:g} s") from None
        messages = []
        while self._arrived:
            message = self._arrived.popleft()
            if message.data or not message.headers or "Status" not in message.headers:
                messages.append(message)
                self._wanted -= 1
            else:
                self._take_status(message.headers)
        return messages

    def _take_status(self, headers: dict[str, str]) -> None:
        status = headers["Status"]
        if status == EXPIRED:
            self._wanted = 0
        elif status != HEARTBEAT:
            text = headers.get("Description", "")
            raise BusUnavailable(f"{self._stream}: the broker ended the consumer: {status} {text}")

    def _checked(self, message: Msg) -> Message:
        sequence = message.metadata.sequence
        if sequence.consumer != self._count + 1:
            raise BusUnavailable(
                f"{self._stream}: message {self._count + 1} of the consumer was left out"
            )
        self._count = sequence.consumer
        marks = (message.headers or {}).get(MARKS, "")
        return Message(sequence.stream, message.data, marks)
