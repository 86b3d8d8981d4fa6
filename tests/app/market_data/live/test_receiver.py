"""The receiver's part: what it makes of an exchange's refusals."""

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from app.market_data.live.exchange import receiver


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
