"""A run without the stack: the same data, strategy, positions and order core, in one process.

``python -m app backtest [--data FILE] [--ticks N] [--out FOLDER]`` replays the file (``--ticks``:
also what REPLAY puts behind it), prints a summary, and writes the orders as CSV and the equity
curve as SVG.  The orders are those of the four processes, id for id.
"""

import time
from collections.abc import Callable
from typing import Final

import numpy as np

from app.backtest.broker import PaperBroker
from app.backtest.feed_reader import FeedReader
from app.backtest.result import Curve, Result
from app.config import Settings
from app.market_data.feed import Feed
from app.model.money import UNITS
from app.model.orders import order_id_of_tick
from app.model.timestamps import timestamp_text
from app.model.wire.order_json import encode_order
from app.strategy.base import SIGNAL_NAMES, load_strategy
from app.strategy.engine import Engine

PROGRESS_EVERY_TICKS: Final = 1 << 18


def run(
    settings: Settings,
    feed: Feed,
    total: int | None = None,
    progress: Callable[[int], None] = lambda _done: None,
) -> Result:
    """Replay the first ``total`` ticks of ``feed``, by default its file.

    Raises:
        StrategyError: the strategy cannot be loaded, or failed.
    """
    total = feed.file.ticks if total is None else min(total, feed.total)
    engine = Engine(load_strategy(settings.strategy), feed.symbols, settings)
    broker, client = PaperBroker(settings), settings.strategy_client
    reader, curve = FeedReader(feed, total), Curve(len(feed.symbols), total)
    tally = np.zeros(3, np.int64)
    next_progress = PROGRESS_EVERY_TICKS
    started_s = time.perf_counter()
    for ticks in reader.batches():
        signals = engine.signals(ticks, reader.join)
        fills: list[tuple[int, int, int, float]] = []
        for intents in engine.intents(ticks, signals):
            for intent in intents:
                frame = encode_order(
                    order_id_of_tick(intent.seq),
                    client,
                    SIGNAL_NAMES[intent.signal],
                    intent.symbol,
                    engine.qty(intent),
                    intent.price,
                    timestamp_text(intent.event_ns),
                )
                accepted = broker.submit(frame, intent.event_ns)
                engine.settle(intent, accepted)
                order = broker.orders[-1]
                if order.filled_qty:
                    signed = order.side * order.filled_qty
                    price = order.filled_notional / order.filled_qty / UNITS
                    fills.append((intent.seq, intent.symbol_index, signed, price))
        curve.take(ticks, fills)
        tally += np.bincount(signals + 1, minlength=3)
        done = int(ticks["seq"][-1]) + 1
        if done >= next_progress:
            next_progress = done + PROGRESS_EVERY_TICKS
            progress(done)
    curve.close()
    took_s = time.perf_counter() - started_s
    progress(total)
    known = broker.core.clients
    return Result(
        feed.symbols,
        total,
        took_s,
        client,
        broker.orders,
        dict(known[client].positions) if client in known else {},
        dict(zip(feed.symbols, curve.last_price.tolist(), strict=True)),
        curve,
        (int(tally[2]), int(tally[0]), int(tally[1])),
    )
