"""The ticks of a run from its start, asked of the gateway: how a restarted strategy catches up."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from app.config import Settings
from app.kernel import _kernel
from app.model.tick import TICK_DTYPE
from app.model.wire.feed_protocol import parse_mark
from app.model.wire.frames import RemoteProtocolError
from app.runtime.lifecycle import Backoff, FatalError, Stop
from app.runtime.log import get_logger
from app.runtime.net.feed_client import FeedClosed, FeedConnection, MalformedTicks
from app.strategy.engine import MAX_BATCH_TICKS

log = get_logger()


def ticks_from_start(
    settings: Settings,
    symbols: list[str],
    feed_id: str,
    until_seq: int,
    stop: Stop,
    heartbeat: Callable[[], None],
) -> Iterator[npt.NDArray[np.void]]:
    """Batches of ticks with sequences from 0 to below ``until_seq``; ends early on a stop.

    Each batch is valid until the next is asked for.  Ticks that the source sends malformed twice
    are left out, as the orderbook leaves them out.

    Raises:
        FatalError: the gateway cannot repeat anything, or now serves another run.
    """
    if not feed_id:
        raise FatalError(
            "the gateway sends no sequence numbers, so this strategy cannot catch up; "
            "restart the whole stack"
        )
    parser = _kernel.FieldParser(symbols)
    batch = np.zeros(MAX_BATCH_TICKS, TICK_DTYPE)
    backoff = Backoff(settings.reconnect_delay_ms, settings.reconnect_delay_ms_max)
    seq, wrong = 0, MalformedTicks()
    while seq < until_seq and not stop:
        feed = None
        try:
            if not seq:
                # A gateway that was restarted, too, learns here how far the run has come: what
                # lies behind goes out at full speed.
                _connect(settings, until_seq, feed_id).close()
            feed = _connect(settings, seq, feed_id)
            backoff.reset()
            while seq < until_seq and not stop:
                position = 0
                room = batch[: min(MAX_BATCH_TICKS, until_seq - seq)]
                count, position, end = _kernel.parse_ticks(
                    parser, feed.buffer, position, feed.fill, room, seq
                )
                feed.consume(position)
                if count:
                    seq += count
                    yield batch[:count]
                if end == _kernel.MARK and seq < until_seq:
                    frame, behind = feed.take_frame(0)
                    feed.consume(behind)
                    if parse_mark(frame, "BEAT") != seq:
                        raise FatalError(f"damaged history: {frame[:40]!r} at tick {seq}")
                elif end > _kernel.MARK and seq < until_seq:
                    wrong_seq, field = seq, feed.take_frame(0)[0]
                    seq += wrong.is_from_source(seq, field)
                    raise RemoteProtocolError(f"no tick {wrong_seq} in the history")
                elif end == _kernel.NEED_MORE and not feed.receive():
                    heartbeat()
        except (FeedClosed, RemoteProtocolError) as error:
            log.warning("history_lost", error=str(error), seq=seq)
            backoff.sleep(stop, heartbeat)
        finally:
            if feed is not None:
                feed.close()


def announce(settings: Settings, feed_id: str, seq: int) -> None:
    """Let a gateway that began anew know that the run had come to ``seq``: up to there it hurries.

    Raises:
        FatalError: it now serves another run.
    """
    try:
        _connect(settings, seq, feed_id).close()
    except (FeedClosed, RemoteProtocolError) as error:
        log.warning("position_not_announced", seq=seq, error=str(error))


def _connect(settings: Settings, seq: int, feed_id: str) -> FeedConnection:
    feed = FeedConnection(
        settings.gateway_host,
        settings.price_port,
        seq,
        has_symbols=True,
        must_be_sequenced=True,
        silent_s_max=settings.heartbeat_timeout_s,
    )
    if feed.feed_id != feed_id:
        feed.close()
        raise FatalError(
            f"the gateway now serves run {feed.feed_id}, the ring holds {feed_id}; restarting"
        )
    return feed
