"""``python -m app.bus remove STREAM --yes``: give up what a stream has.

Nobody deletes single messages: who reads a stream relies on that.  What is left is to remove it as
a whole; ``setup`` makes an empty one, and a shard publishes its store into it, all of it.
"""

import asyncio
import re
import sys
from typing import Final

from nats.js.errors import NotFoundError

from app.bus.link import names
from app.bus.link.access import Access, bus_access
from app.bus.link.connection import BusUnavailable, Link
from app.bus.link.streams import ask, stream_info
from app.bus.process import run_bus_process
from app.config.settings import Settings, SettingsError
from app.runtime.lifecycle import EXIT_OK, FatalError, Stop

STREAM: Final = re.compile(r"(OUT|MD)_[a-z0-9-]{1,32}|CONTROL|MAP")
assert all(map(STREAM.fullmatch, (names.out_stream("a"), names.md_stream("a"))))


def remove(*arguments: str) -> int:
    """Remove one stream; without ``--yes``, say only what it has, exit code 2."""
    stream, *rest = arguments or ("",)

    def body(settings: Settings, _stop: Stop) -> int:
        if not STREAM.fullmatch(stream) or rest not in ([], ["--yes"]):
            raise SettingsError("remove: name one stream, such as OUT_a, and then --yes")
        try:
            return asyncio.run(_remove(bus_access(settings), stream, rest == ["--yes"]))
        except BusUnavailable as error:
            raise FatalError(f"remove: {error}") from None

    return run_bus_process("remove", body)


async def _remove(access: Access, stream: str, sure: bool) -> int:
    async with await Link.open(access, "remove") as link:
        try:
            info = await stream_info(link, stream)
            text = f"{stream}: {info.state.messages} messages, {info.state.bytes} bytes"
            if not sure:
                raise SettingsError(f"remove: {text}: --yes removes them all")
            await ask(link, f"STREAM.DELETE.{stream}", link.js.delete_stream(stream))
        except NotFoundError:
            raise FatalError(f"remove: there is no stream {stream}") from None
    sys.stdout.write(f"removed {text}; setup makes an empty one\n")
    return EXIT_OK
