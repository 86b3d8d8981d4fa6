"""What a gateway's loop does with the session of a feed on the bus."""

import time

from app.market_data.live.bus.session import BusSession
from app.market_data.live.exchange.supervised import ReceiverDied


def work(session: BusSession, until_s: float) -> None:
    """Once; ``until_s``: when it must be done with everything (CLOCK_MONOTONIC)."""
    assert time.monotonic() < until_s, "not within the time"
    try:
        if session.descriptor is None:
            session.respawn(time.monotonic())
        elif session.take() is None:
            time.sleep(0.002)
    except ReceiverDied:
        session.restart()
