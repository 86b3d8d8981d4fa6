"""Messages under way to a stream, each with the broker's answer to come.

In place of nats-py's ``publish_async``: there a message that the broker refuses is never answered
(2.16: its handler raises where it should set the exception).
"""

import asyncio
from typing import NamedTuple, Self

import msgspec
import nats.errors
from nats.aio.msg import Msg

from app.bus.link.connection import BusUnavailable, Link


class Ack(NamedTuple):
    """The message is stored, as number ``seq`` of the stream; ``duplicate``: it was before."""

    seq: int
    duplicate: bool


class AckRefused(Exception):
    """The broker has not stored the message; ``err_code`` is its own code, 0 if nobody answers."""

    def __init__(self, err_code: int, description: str) -> None:
        super().__init__(f"{description} (code {err_code})" if err_code else description)
        self.err_code = err_code


class _Error(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct):
    error: _Error | None = None
    seq: int = 0
    duplicate: bool = False


class Acks:
    """Sends messages over one connection and matches the answers."""

    def __init__(self, link: Link) -> None:
        self._link, self._inbox = link, link.client.new_inbox()
        self._next = 0
        self._waiting: dict[str, asyncio.Future[Ack]] = {}
        self._decoder = msgspec.json.Decoder(_Answer)

    @classmethod
    async def open(cls, link: Link) -> Self:
        """Begin to listen for answers.

        Raises:
            BusUnavailable: the connection is lost.
        """
        acks = cls(link)
        try:
            await link.client.subscribe(f"{acks._inbox}.*", cb=acks._on_answer)
        except (nats.errors.Error, OSError) as error:
            raise BusUnavailable(str(error)) from None
        return acks

    async def send(self, subject: str, body: bytes, headers: dict[str, str]) -> asyncio.Future[Ack]:
        """Send a message; the future gives its :class:`Ack`, or raises :class:`AckRefused`.

        It stays pending if the connection is lost: see ``Link.lost``.

        Raises:
            BusUnavailable: the connection is lost.
        """
        self._next += 1
        token = str(self._next)
        future: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        self._waiting[token] = future
        future.add_done_callback(lambda _: self._waiting.pop(token, None))
        try:
            await self._link.client.publish(
                subject, body, reply=f"{self._inbox}.{token}", headers=headers
            )
        except (nats.errors.Error, OSError) as error:
            future.cancel()
            raise BusUnavailable(f"{subject}: {error}") from None
        return future

    async def _on_answer(self, message: Msg) -> None:
        future = self._waiting.get(message.subject.rpartition(".")[2])
        if future is None or future.done():
            return
        if not message.data:
            future.set_exception(AckRefused(0, "no stream takes this subject now"))
            return
        try:
            answer = self._decoder.decode(message.data)
        except msgspec.DecodeError as error:
            future.set_exception(AckRefused(0, f"no answer of a stream: {error}"))
            return
        if answer.error is not None:
            refused = answer.error
            future.set_exception(AckRefused(refused.err_code, refused.description))
            return
        future.set_result(Ack(answer.seq, answer.duplicate))
