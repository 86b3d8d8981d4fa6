"""Recovery of a restarted strategy: ticks from the gateway, positions from the order manager.

Where a run cannot be repeated tick by tick (live, or with ticks lost), the strategy takes its
positions from the order manager and sends nothing for the time it was away: those prices are gone.
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from app.config.settings import Settings
from app.kernel import _kernel
from app.model.money import Scale
from app.model.orders import tick_of_order_id
from app.model.tick import TICK_DTYPE
from app.model.wire.feed_protocol import parse_mark
from app.model.wire.frames import RemoteProtocolError
from app.runtime.lifecycle import Backoff, FatalError, Stop
from app.runtime.log import get_logger
from app.runtime.net.feed_client import FeedClosed, FeedConnection, MalformedTicks
from app.runtime.net.feed_dialer import FeedDialer
from app.runtime.net.order_client import OrderClient
from app.strategy.engine import MAX_BATCH_TICKS

log = get_logger()


class History:
    """The ticks of a run from its start, read from the gateway.

    Raises:
        FatalError: the gateway sends no sequence numbers, so it cannot resend ticks.
    """

    def __init__(
        self,
        settings: Settings,
        symbols: list[str],
        feed_id: str,
        stop: Stop,
        heartbeat: Callable[[], None],
        proof: str = "",
    ) -> None:
        """``proof``: as for :class:`FeedDialer`."""
        if not feed_id:
            raise FatalError(
                "the gateway sends no sequence numbers, so this strategy cannot catch up; "
                "restart the whole stack"
            )
        self._dialer, self._feed_id, self._proof = FeedDialer(settings), feed_id, proof
        self._stop, self._heartbeat = stop, heartbeat
        self._parser = _kernel.FieldParser(symbols)
        self._batch = np.zeros(MAX_BATCH_TICKS, TICK_DTYPE)
        self._backoff = Backoff(settings.reconnect_delay_ms, settings.reconnect_delay_ms_max)
        self._malformed = MalformedTicks()
        self._seq = 0

    def batches(self, until_seq: int) -> Iterator[npt.NDArray[np.void]]:
        """The ticks ``0`` to ``until_seq - 1``, in batches; ends early on a stop.

        Each batch is valid until the next is read.  Ticks that the source sends malformed
        repeatedly are left out, as the orderbook leaves them out.

        Raises:
            FatalError: the gateway now serves another run, or its history is damaged.
        """
        while self._seq < until_seq and not self._stop:
            feed = None
            try:
                if not self._seq:
                    # Tells a restarted gateway how far the run had got: up to there it sends at
                    # full speed.
                    _connect(self._dialer, until_seq, self._feed_id, self._proof).close()
                feed = _connect(self._dialer, self._seq, self._feed_id, self._proof)
                self._backoff.reset()
                yield from self._read(feed, until_seq)
            except (FeedClosed, RemoteProtocolError) as error:
                log.warning("history_lost", error=str(error), seq=self._seq)
                self._backoff.sleep(self._stop, self._heartbeat)
            finally:
                if feed is not None:
                    feed.close()

    def _read(self, feed: FeedConnection, until_seq: int) -> Iterator[npt.NDArray[np.void]]:
        """The batches of one connection."""
        while not self._stop:
            room = self._batch[: min(MAX_BATCH_TICKS, until_seq - self._seq)]
            count, position, end = _kernel.parse_ticks(
                self._parser, feed.buffer, 0, feed.fill, room, self._seq
            )
            feed.consume(position)
            if count:
                self._seq += count
                yield self._batch[:count]
            if self._seq >= until_seq:
                return
            if end == _kernel.NEED_MORE:
                if not feed.receive():
                    self._heartbeat()
            elif end != _kernel.FULL:
                self._take_other(feed, end)

    def _take_other(self, feed: FeedConnection, end: int) -> None:
        """Take a frame that is not a tick: a heartbeat, or a malformed field."""
        frame, position = feed.take_frame(0)
        if end == _kernel.MARK:
            feed.consume(position)
            if parse_mark(frame, "BEAT") != self._seq:
                raise FatalError(f"damaged history: {frame[:40]!r} at tick {self._seq}")
            return
        malformed_seq = self._seq
        self._seq += self._malformed.is_from_source(malformed_seq, frame)
        raise RemoteProtocolError(f"no tick {malformed_seq} in the history")


def announce_position(settings: Settings, feed_id: str, order_id: int, proof: str) -> None:
    """Tell the gateway that the run had reached the tick of this order.

    If it was restarted, it sends up to there fast.

    Raises:
        FatalError: it now serves another run.
    """
    seq = tick_of_order_id(order_id) + 1
    try:
        _connect(FeedDialer(settings), seq, feed_id, proof).close()
    except (FeedClosed, RemoteProtocolError) as error:
        log.warning("position_not_announced", seq=seq, error=str(error))


def _connect(dialer: FeedDialer, seq: int, feed_id: str, proof: str) -> FeedConnection:
    feed = dialer.prices(seq, proof, must_be_sequenced=True)
    if feed.feed_id != feed_id:
        feed.close()
        raise FatalError(
            f"the gateway now serves run {feed.feed_id}, the ring holds {feed_id}; restarting"
        )
    return feed


def agree_on_decimals(client: OrderClient, scale: Scale) -> None:
    """Connect, and ask the order manager for its QTY_DECIMALS, which must be those of ``scale``.

    Whole quantities are the same with any decimals, so without decimals nothing is asked: it may be
    an order manager that knows only orders.

    Raises:
        FatalError: they are others.
        StopRequested: a stop was requested meanwhile.
    """
    if not scale.decimals:
        client.connect()
        return
    there = client.ask({"op": "ping"}).get("qty_decimals", 0)
    if there != scale.decimals:
        raise FatalError(
            f"QTY_DECIMALS: {scale.decimals} in the strategy, {there} in the order manager; start "
            "both again with the same value",
            final=True,
        )


def last_order_id(client: OrderClient, name: str) -> int | None:
    """The id of the latest order of ``name``, or None.

    Raises:
        StopRequested: a stop was requested meanwhile.
    """
    newest = {"op": "orders", "open": False, "limit": 1}
    if not client.ask(newest).get("orders"):
        # A new run.  To ask for a client that has sent no order yet is refused, with a warning.
        return None
    answer = client.ask({**newest, "client": name})
    while answer.get("more") and not answer["orders"]:
        # Only a part of the others' orders is looked through at once.
        answer = client.ask({**newest, "client": name, "before": answer["before"]})
    orders = answer.get("orders", [])
    return int(orders[0]["id"]) if orders else None
