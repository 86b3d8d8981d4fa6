"""A process of its own: reads a shard's stream, and passes its messages on to the gateway.

What comes from the network is read here; the gateway checks it.  When the gateway does not read,
this process stops reading, too, and what is not read stays in the stream.

It is started by :mod:`app.market_data.live.bus.session` with the descriptor of the socket as
argument and a :class:`BusRequest` on standard input; the settings are those of the environment.
"""

import asyncio
import ctypes
import os
import signal
import socket
import sys
from typing import Final

import msgspec
from nats.js.errors import NotFoundError

from app.bus.feed.pull import pull
from app.bus.link import names
from app.bus.link.access import Access, bus_access
from app.bus.link.connection import BusRefused, BusUnavailable, Link
from app.bus.link.streams import ask
from app.config.loading import load_settings
from app.config.settings import Settings, SettingsError
from app.market_data.live.bus.batch import RUN_BEGIN
from app.market_data.live.bus.session import BusRequest, Packet, encode_packet
from app.market_data.live.exchange.messages import (
    EVENT_MARK,
    Connected,
    Event,
    Lost,
    Waiting,
    encode_event,
)
from app.runtime.lifecycle import Backoff

LOOK_S: Final = 0.5
"""Between two looks at whether the run has begun."""
REFUSED_S: Final = 10.0
TEXT_MAX: Final = 300
_PR_SET_PDEATHSIG: Final = 1


class Gateway:
    """The socket to the parent."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket, self._loop = connection, asyncio.get_running_loop()

    async def tell(self, event: Event) -> None:
        """Tell the parent; wait until it has room."""
        await self._loop.sock_sendall(self._socket, EVENT_MARK + encode_event(event))

    async def pass_on(self, packet: Packet) -> None:
        """Pass a message on; wait until the parent has room."""
        await self._loop.sock_sendall(self._socket, encode_packet(packet))


async def receive(
    request: BusRequest, settings: Settings, access: Access, gateway: Gateway
) -> None:
    """Read the stream until the parent is gone.

    Raises:
        OSError: the parent is gone.
    """
    backoff = Backoff(settings.reconnect_delay_ms, settings.reconnect_delay_ms_max)
    after = request.after
    while True:
        pause_s = 0.0
        try:
            async with await Link.open(access, f"gateway-{request.shard}") as link:
                await gateway.tell(Connected(f"nats://{names.md_subject(request.shard)}"))
                after = after or await _before_run(link, request)
                async for place, headers, data in pull(link, request.shard, after):
                    await gateway.pass_on(Packet(place, headers, data))
                    after = place
                    backoff.reset()
        except BusUnavailable as error:
            reason = str(error)
        except (BusRefused, SettingsError) as error:
            reason, pause_s = str(error), REFUSED_S
        pause_s = max(pause_s, backoff.delay_s())
        await gateway.tell(Lost(reason[:TEXT_MAX], pause_s))
        await asyncio.sleep(pause_s)
        await gateway.tell(Waiting())


async def _before_run(link: Link, request: BusRequest) -> int:
    """The place before the first message of the run; waits until the run begins."""
    stream, subject = names.md_stream(request.shard), names.md_subject(request.shard)
    api = f"STREAM.MSG.GET.{stream}"
    while True:
        try:
            found = await ask(link, api, link.js.get_last_msg(stream, subject))
            while True:
                headers, place = found.headers or {}, found.seq or 0
                begin = int(headers.get(RUN_BEGIN) or place)
                if not request.run or headers.get(names.RUN) == request.run:
                    return begin - 1
                if begin <= 1:
                    break
                found = await ask(link, api, link.js.get_msg(stream, begin - 1))
        except NotFoundError:
            pass  # no stream, or nothing in it
        except ValueError:
            raise BusRefused(f"stream {stream}: somebody else writes there") from None
        if link.lost.is_set():
            raise BusUnavailable(link.why)
        await asyncio.sleep(LOOK_S)


async def _main(request: BusRequest, connection: socket.socket) -> None:
    gateway = Gateway(connection)
    settings = load_settings()
    try:
        access = bus_access(settings)
    except SettingsError as error:
        await gateway.tell(Lost(str(error)[:TEXT_MAX], REFUSED_S))
        await asyncio.sleep(REFUSED_S)
        return
    async with asyncio.TaskGroup() as group:
        group.create_task(receive(request, settings, access, gateway))


def main() -> None:
    """Run until the parent is gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=BusRequest)
    if os.getppid() != request.parent:
        return  # it died before it could be watched
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        connection.setblocking(False)
        try:
            asyncio.run(_main(request, connection))
        except* (BrokenPipeError, ConnectionResetError):
            pass  # the parent is gone


if __name__ == "__main__":
    main()
