"""The strategy's counters and latencies, and the log of its positions.

Nothing here decides anything, so the process calls it after the orders are answered.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from app.config.settings import Settings
from app.kernel import _kernel
from app.kernel._kernel import Intent
from app.model.orders import order_id_of_tick
from app.model.token_bucket import TokenBucket
from app.model.trades_hash import TradesHash, trade_line, unrecorded_line
from app.model.wire.answers import Answer
from app.runtime.log import get_logger
from app.runtime.metrics.expectations import bits_of_money, money_of_bits
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.strategy.base import SIGNAL_NAMES
from app.strategy.engine import Engine
from app.strategy.kit.desk import NOTES_PER_S, renamed
from app.strategy.kit.order_desk import Order
from app.strategy.schedule import Schedule

log = get_logger()

POSITION_NAMES = {1: "LONG", 0: "FLAT", -1: "SHORT"}


class StrategyCounters:
    """Counts for one strategy process.

    ``feed_gaps``: how often the feed was interrupted so far.  ``published``: the next tick to
    arrive.  ``client``: the name on the orders.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: ProcessMetrics,
        engine: Engine,
        feed_gaps: Callable[[], int],
        published: Callable[[], int],
        client: str = "",
    ) -> None:
        self._client = client
        self._metrics, self._engine = metrics, engine
        self.decision_ages = metrics.histogram("tick_to_decision_ns").buckets
        self._ack_ages = metrics.histogram("tick_to_ack_ns").buckets
        self._due_ages = metrics.histogram("scheduled_to_ack_ns").buckets
        self._ack_times = metrics.histogram("order_ack_ns").buckets
        self._schedule = Schedule(settings, feed_gaps, published)
        self._is_late = engine.context.transit is not None
        self._logs_positions = settings.order_mode != "every"
        # Where a restarted strategy sends the whole run again, these count it from its start.
        self._has_hash = settings.resends_run
        self._trades = TradesHash()
        self._order_notes, self._orders_not_noted = TokenBucket(NOTES_PER_S), 0
        self._refusals = TokenBucket(NOTES_PER_S)
        if not self._has_hash:
            self._trades.orders = metrics.get("run_orders")
            self._trades.filled = metrics.get("run_filled")
            self._trades.refused = metrics.get("run_refused")
            # Without latency the block may have what a process before this one paid for it.
            cost = money_of_bits(metrics.get("latency_cost")) if self._is_late else 0.0
            engine.latency_cost = engine.scale.amount_units(cost)

    def add_trades(self, intents: list[Intent], answers: list[Answer]) -> None:
        """Add answered orders to the run's digest, also those of a recovery."""
        lines, filled, refused = [], 0, 0
        qty_text = self._engine.scale.qty_text
        for intent, answer in zip(intents, answers, strict=True):
            order_id, order = intent.order_id, answer.order
            refused += not answer.ok
            if order is None:
                lines.append(unrecorded_line(order_id, answer.code))
                continue
            filled_qty = answer.filled_of(order.qty)
            filled += filled_qty > 0
            lines.append(
                trade_line(
                    order_id,
                    order.side,
                    order.symbol,
                    qty_text(order.qty),
                    bytes(order.price).decode(),
                    order.status,
                    qty_text(filled_qty),
                    bytes(order.avg_price).decode(),
                    answer.code,
                )
            )
        self._trades.add(lines, filled, refused)

    def trace(self, ticks: npt.NDArray[np.void], signals: npt.NDArray[np.int8]) -> None:
        """At DEBUG: one line for each tick that was decided on."""
        for seq, symbol, signal in zip(
            ticks["seq"].tolist(), ticks["symbol"].tolist(), signals.tolist(), strict=True
        ):
            log.debug(
                "tick_decided",
                client=self._client,
                seq=seq,
                id=order_id_of_tick(seq),
                symbol=self._engine.symbols[symbol],
                signal=SIGNAL_NAMES[signal],
            )

    def count_batch(self, signals: npt.NDArray[np.int8], decided_ns: int) -> None:
        """Count one batch's signals; ``decided_ns``: CLOCK_MONOTONIC of the decision."""
        buys, sells, flats, holds = _kernel.tally(signals)
        metrics = self._metrics
        metrics.add("signals_buy", buys)
        metrics.add("signals_sell", sells)
        metrics.add("signals_flat", flats)
        metrics.add("signals_hold", holds)
        metrics.add("batches")
        metrics.mark_event(decided_ns)

    def due_ns(self, intents: list[Intent]) -> list[int]:
        """When the tick of each was due at the gateway, CLOCK_MONOTONIC; 0 if unknown."""
        return [self._schedule.due_ns(intent.seq) or 0 for intent in intents]

    def count_orders(
        self,
        intents: list[Intent],
        answers: list[Answer],
        due_ns: list[int],
        sent_ns: int,
        done_ns: int,
    ) -> None:
        """Count orders sent at ``sent_ns`` and answered by ``done_ns``, CLOCK_MONOTONIC.

        ``due_ns``: as :meth:`due_ns` returns it.
        """
        metrics = self._metrics
        _kernel.record_latency(self._ack_times, done_ns - sent_ns, len(intents))
        acked = duplicate = 0
        for intent, answer, due in zip(intents, answers, due_ns, strict=True):
            age_us = (done_ns // 1000 - intent.recv_us) & 0xFFFFFFFF
            _kernel.record_latency(self._ack_ages, age_us * 1000)
            if due:
                _kernel.record_latency(self._due_ages, done_ns - due)
            acked += answer.ok
            duplicate += answer.duplicate
            if not answer.ok:
                log.warning(
                    "order_rejected",
                    client=self._client,
                    id=intent.order_id,
                    symbol=intent.symbol,
                    code=answer.code,
                    msg=answer.msg,
                )
        metrics.add("orders_duplicate", duplicate)
        metrics.add("orders_acked", acked)
        metrics.add("orders_rejected", len(intents) - acked)
        if self._is_late:
            self._publish_latency_cost()
        # Last: after a kill in between, no answered order may look unanswered in the report.
        metrics.add("orders_sent", len(intents))
        if self._logs_positions:
            self._log_positions(intents, answers)

    def _log_positions(self, intents: list[Intent], answers: list[Answer]) -> None:
        for intent, answer in zip(intents, answers, strict=True):
            if answer.ok:
                self._metrics.add("position_changes")
                held = self._engine.held(intent.symbol_index)
                log.info(
                    "position",
                    client=self._client,
                    id=intent.order_id,
                    symbol=intent.symbol,
                    now=POSITION_NAMES[(held > 0) - (held < 0)],
                    held=self._engine.scale.qty(held),
                    price=intent.price,
                )

    def publish(self, reader: _kernel.TickReader) -> None:
        """Publish the reader's position in the ring, and the heartbeat."""
        metrics = self._metrics
        metrics.set("ticks_lost", reader.lost)
        metrics.set("ticks_consumed", reader.position - metrics.get("joined_at") - reader.lost)
        metrics.set("queue_depth", reader.available())
        metrics.set("run_orders", self._trades.orders)
        metrics.set("run_filled", self._trades.filled)
        metrics.set("run_refused", self._trades.refused)
        metrics.set("trades_hash", self._trades.value if self._has_hash else 0)
        if self._engine.places:
            orders = self._engine.context.orders
            metrics.set("placed", orders.placed)
            metrics.set("placed_canceled", orders.canceled)
            metrics.set("placed_open", len(orders.open_orders) or len(self._engine.left_open))
        # Without latency, too: a process before this one may have had some.
        self._publish_latency_cost()
        context = self._engine.context
        metrics.set("in_transit", self._engine.left_in_transit or context.in_transit)
        metrics.set("transit_refused", context.transit_refused)
        metrics.heartbeat()

    def _publish_latency_cost(self) -> None:
        cost = self._engine.scale.amount(self._engine.latency_cost)
        self._metrics.set("latency_cost", bits_of_money(cost))

    def note(self, text: str, seq: int, fields: dict[str, Any]) -> None:
        """Log what the strategy says, while it is shown tick ``seq``."""
        log.info("strategy_says", client=self._client, text=text, seq=seq, **renamed(fields))

    def log_left_open(self) -> None:
        """Log how many orders the end of the run has canceled, or found in transit, if any."""
        if late := self._engine.left_in_transit:
            log.info("orders_left_in_transit", client=self._client, count=late)
        if left := len(self._engine.left_open):
            log.info("placed_orders_canceled", client=self._client, count=left)

    def note_order(self, what: str, order: Order) -> None:
        """Log that an order waits for its price, or that the strategy has canceled it."""
        if not self._order_notes.take(time.monotonic_ns()):
            self._orders_not_noted += 1
            return
        left_out, self._orders_not_noted = self._orders_not_noted, 0
        log.info(
            "placed_order",
            client=self._client,
            what=what,
            number=order.number,
            side=order.side,
            qty=order.left_qty,
            symbol=order.symbol,
            limit=order.limit,
            seq=self._engine.context.desk.seq,
            **({"left_out": left_out} if left_out else {}),
        )

    def listen(self) -> None:
        """From now on, log what happens to orders before they are sent."""
        context = self._engine.context
        context.orders.on_event = self.note_order
        if context.transit is not None:
            context.transit.on_refused = self.note_refusal

    def note_refusal(self, intent: Intent) -> None:
        """Log that a signal has no order, because too many are in transit."""
        if self._refusals.take(time.monotonic_ns()):
            log.warning(
                "too_many_in_transit",
                client=self._client,
                seq=intent.seq,
                symbol=intent.symbol,
                refused=self._engine.context.transit_refused,
                mend="set a lower PAPER_LATENCY_MS, or ORDER_MODE=position",
            )

    def close(self) -> None:
        """Detach from the gateway's counters."""
        self._schedule.close()

    def log_progress(self, reader: _kernel.TickReader) -> None:
        """Log how far the run has got."""
        log.info(
            "progress",
            ticks=self._metrics.get("ticks_consumed"),
            lost=reader.lost,
            orders=self._metrics.get("orders_sent"),
            acked=self._metrics.get("orders_acked"),
            queue=reader.available(),
        )
