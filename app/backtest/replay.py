"""A run without the stack: the same data, strategy, positions and order core, in one process.

It sends the same orders as the four processes, id for id.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from app.backtest.broker import PaperBroker
from app.backtest.feed_reader import FeedReader
from app.backtest.result import EQUITY_POINTS, Curve, Fill, OrdersLater, Result
from app.config.settings import Settings
from app.kernel import _kernel
from app.market_data.feed import Feed
from app.model.reject_codes import RejectCode
from app.strategy.base import Strategy, load_strategy
from app.strategy.engine import Engine
from app.strategy.kit.outcome import Outcome
from app.strategy.kit.sized_intent import SizedIntent

PROGRESS_EVERY_TICKS: Final = 1 << 18


class Reader(Protocol):
    """Where the ticks come from; :class:`FeedReader` is one."""

    def batches(self) -> Iterator[npt.NDArray[np.void]]:
        """All ticks, in batches of at most MAX_BATCH_TICKS."""

    def join(self, ticks: npt.NDArray[np.void], out: npt.NDArray[np.int16]) -> None:
        """Write each tick's sentiment to ``out``; called once per batch, in order."""


class Recorder(Protocol):
    """Follows a run; :class:`app.backtest.results.recorder.Recorder` is one."""

    def take(self, ticks: npt.NDArray[np.void], fills: Sequence[Fill]) -> None:
        """Ticks and their fills, in order; the ticks are valid only during the call."""

    def close(self) -> None:
        """The run is over."""


def run(
    settings: Settings,
    feed: Feed,
    total: int | None = None,
    progress: Callable[[int], None] = lambda _done: None,
    recorder: Recorder | None = None,
    strategy: type[Strategy] | None = None,
) -> Result:
    """Replay the first ``total`` ticks of ``feed``, by default its file.

    ``progress`` is called with the ticks done so far.  ``strategy``: by default the settings'.

    Raises:
        ParamError: STRATEGY_PARAMS is wrong.
        StrategyError: the strategy cannot be loaded, or failed.
    """
    total = feed.ticks_of_run(total)
    reader = FeedReader(feed, total)
    result = replay(
        settings, feed.symbols, reader, total, progress, recorder=recorder, strategy=strategy
    )
    result.after_file, result.replay = feed.ticks_added(total), settings.replay
    return result


def replay(
    settings: Settings,
    symbols: list[str],
    reader: Reader,
    total: int,
    progress: Callable[[int], None] = lambda _done: None,
    points: int = EQUITY_POINTS,
    recorder: Recorder | None = None,
    strategy: type[Strategy] | None = None,
) -> Result:
    """The same of the ``total`` ticks that ``reader`` has; ``points``: of the equity curve."""
    engine = Engine(strategy or load_strategy(settings.strategy), symbols, settings)
    broker, client = PaperBroker(settings, symbols), settings.strategy_client
    curve = Curve(len(symbols), total, points, broker.core.borrow.rate)
    tally = np.zeros(4, np.int64)
    next_progress = PROGRESS_EVERY_TICKS
    started_s = time.perf_counter()
    engine.start()
    for ticks in reader.batches():
        for piece, signals in engine.decisions(ticks, reader.join):
            fills = trade(engine, broker, client, piece, signals)
            curve.take(piece, fills)
            if recorder is not None:
                recorder.take(piece, fills)
            tally += _kernel.tally(signals)
        done = int(ticks["seq"][-1]) + 1
        if done >= next_progress:
            next_progress = done + PROGRESS_EVERY_TICKS
            progress(done)
    engine.stop()
    curve.close()
    if recorder is not None:
        recorder.close()
    took_s = time.perf_counter() - started_s
    progress(total)
    buys, sells, flats, holds = tally.tolist()
    return Result(
        symbols,
        total,
        took_s,
        client,
        OrdersLater(broker.count, broker.take_orders),
        broker.positions(client),
        dict(zip(symbols, curve.last_price.tolist(), strict=True)),
        curve,
        (buys, sells, flats, holds),
        engine.params.text,
        broker.accrued(client, dict(zip(symbols, curve.last_ns.tolist(), strict=True))),
        engine.context.orders.placed,
        engine.context.orders.canceled,
        len(engine.left_open),
        engine.latency_cost,
        engine.left_in_transit,
        engine.context.transit_refused,
        scale=engine.scale,
    )


def trade(
    engine: Engine,
    broker: PaperBroker,
    client: str,
    ticks: npt.NDArray[np.void],
    signals: npt.NDArray[np.int8],
) -> Sequence[Fill]:
    """Send the orders of one batch; returns the fills, in order."""
    found = engine.one_by_one(ticks, signals)
    if found is not None:
        return broker.trade(found, engine.shares, client)
    fills: list[Fill] = []
    for intents, encoded in engine.orders(ticks, signals, client):
        for intent, frames in zip(intents, encoded, strict=True):
            order = broker.submit(frames, intent.event_ns)
            qty = engine.qty(intent) if engine.told else 0
            engine.settle(intent, order.filled_qty)
            if order.filled_qty:
                fill = broker.fill(order, intent.seq, intent.symbol_index, client)
                if isinstance(intent, SizedIntent) and intent.moved:
                    cost = engine.scale.amount(intent.moved * order.filled_qty)
                    fill = fill._replace(latency=cost)
                fills.append(fill)
            if engine.told:
                code = RejectCode(order.code).name if order.code else ""
                paid_for = order.fee, order.borrow
                told = Outcome(order.filled_qty, order.avg_price, code, order.msg or "", *paid_for)
                engine.tell(intent, qty, told)
    return fills
