"""The receiver: how it connects, and what it makes of an exchange's refusals."""

import asyncio
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from app.market_data.live.exchange import receiver
from app.market_data.live.exchange.messages import Event, Lost, Request
from app.runtime.lifecycle import Backoff
from tests.support.certificates import make_certificate

REQUEST = Request("ws://host/ws", "binance", ["A"], "", "", 1.0, 1, 1, os.getpid())


@pytest.mark.parametrize(
    ("wishes", "pause_s"),
    [
        ([], receiver.REFUSED_S),
        (["2.5"], 2.5),
        (["-3"], 0.0),
        (["1e9"], receiver.REFUSED_S_MAX),
        (["nan"], receiver.REFUSED_S),
        (["inf"], receiver.REFUSED_S),
        (["soon"], receiver.REFUSED_S),
        (["5", "7"], receiver.REFUSED_S),
    ],
)
def test_how_long_an_exchange_that_refuses_is_left_in_peace(
    wishes: list[str], pause_s: float
) -> None:
    headers = Headers([("Retry-After", wish) for wish in wishes])
    error = InvalidStatus(Response(429, "Too Many Requests", headers))
    assert receiver._refusal(error) == (
        "refused by the exchange: HTTP 429 Too Many Requests",
        pause_s,
    )


# ---- pauses


class Enough(Exception):
    """Ends the receiver."""


class Attempts:
    """An exchange, the parent and the clock: each attempt to connect takes its time."""

    def __init__(self, opens_in_s: float, answers: bool, lasts_s: float) -> None:
        self.opens_in_s, self.answers, self.lasts_s = opens_in_s, answers, lasts_s
        self.now_s, self.lost = 1000.0, 0

    def monotonic(self) -> float:
        return self.now_s

    async def __aenter__(self) -> None:
        self.now_s += self.opens_in_s
        if not self.answers:
            raise TimeoutError("timed out during opening handshake")

    async def __aexit__(self, *_: object) -> None: ...

    async def read(self, *_: object) -> None:
        self.now_s += self.lasts_s

    async def send_event(self, event: Event) -> None:
        self.lost += isinstance(event, Lost)
        if self.lost == 4:
            raise Enough


@pytest.mark.parametrize(
    ("attempts", "resets"),
    [
        (Attempts(10.0, answers=False, lasts_s=0.0), 0),
        (Attempts(9.0, answers=True, lasts_s=1.0), 0),
        (Attempts(0.1, answers=True, lasts_s=60.0), 4),
    ],
    ids=["no answer", "a short connection", "a long connection"],
)
def test_only_a_connection_that_lasts_ends_the_growth_of_pauses(
    monkeypatch: pytest.MonkeyPatch, attempts: Attempts, resets: int
) -> None:
    found = []
    monkeypatch.setattr(Backoff, "reset", lambda _self: found.append(1))
    monkeypatch.setattr(receiver, "time", attempts)
    monkeypatch.setattr(receiver, "connect", lambda *_, **__: attempts)
    monkeypatch.setattr(receiver, "_read", attempts.read)
    outbox: Any = attempts
    with pytest.raises(Enough):
        asyncio.run(receiver._connect_for_ever(REQUEST, outbox))
    assert len(found) == resets


def test_authorities_of_one_s_own_are_trusted_beside_those_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "system").mkdir()
    system, own = make_certificate(tmp_path / "system"), make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(system.cert))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    request = structs.replace(REQUEST, url="wss://host/ws", ca_file=str(own.cert))
    trusted = receiver._options(request)["ssl"].get_ca_certs(binary_form=True)
    for each in (system, own):
        assert ssl.PEM_cert_to_DER_cert(Path(each.cert).read_text()) in trusted
