"""The stream of a page: it is counted as long as there is somebody, whatever it is doing then."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from app.dashboard.web import PageStream

SCOPE = {"type": "http", "method": "GET", "path": "/events", "asgi": {"spec_version": "2.3"}}


class FakeSampler:
    """Counts pages; its messages never end."""

    def __init__(self) -> None:
        self.hub, self.pages, self.kept = self, 0, list[Any]()

    def page_opened(self) -> None:
        self.pages += 1

    def page_closed(self) -> None:
        self.pages -= 1

    def messages(self, symbols: tuple[str, ...], last_event_id: str) -> AsyncIterator[bytes]:
        assert (symbols, last_event_id) == (("A", ""), "x-1")

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"data: {}\n\n"

        self.kept.append(endless())  # the garbage collector does not get it
        return self.kept[-1]


def test_a_client_that_leaves_while_a_message_is_sent_is_not_counted_any_more() -> None:
    async def run() -> None:
        sampler, leaves, sending = FakeSampler(), asyncio.Event(), asyncio.Event()
        stream = PageStream(sampler, ("A", ""), "x-1")  # type: ignore[arg-type]
        sent: list[bytes] = []

        async def receive() -> dict[str, Any]:
            await leaves.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message.get("body", b""))
            if message.get("body", b"").startswith(b"data"):
                sending.set()
                await asyncio.Event().wait()  # its buffer is full

        serving = asyncio.create_task(stream(SCOPE, receive, send))
        await sending.wait()
        assert sampler.pages == 1
        leaves.set()
        await asyncio.wait_for(serving, 5)
        assert sampler.pages == 0
        assert sent[1:] == [b"retry: 1000\n\n", b"data: {}\n\n"]

    asyncio.run(run())
