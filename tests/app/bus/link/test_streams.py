"""What an answer of the broker's API means."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from nats.js.errors import APIError

from app.bus.link.connection import BusRefused, BusUnavailable
from app.bus.link.streams import ask


@pytest.mark.parametrize(
    ("code", "err_code", "meaning"),
    [
        (503, 10008, BusUnavailable),  # a server without a majority: it was taken for a bug
        (503, 10039, BusRefused),  # no JetStream for this account
        (400, 10025, APIError),
    ],
)
def test_a_refusal_is_one_to_wait_for_or_not(
    code: int, err_code: int, meaning: type[Exception]
) -> None:
    async def refused() -> None:
        raise APIError.from_error({"code": code, "err_code": err_code, "description": "a reason"})

    async def run() -> None:
        link: Any = SimpleNamespace(api="$JS.API", denied=lambda _: False, lost=asyncio.Event())
        await ask(link, "STREAM.INFO.OUT_a", refused())

    with pytest.raises(meaning):
        asyncio.run(run())
