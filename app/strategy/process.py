"""The strategy process: ticks and sentiment in, orders out.

One loop: take the next batch of ticks, join it with sentiment, ask the strategy, send its orders,
wait for the answers, then free the batch's space in the ring.  A tick is consumed only after its
order is answered, so a crash repeats orders (under the same ids) and never loses one.
"""

import os
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from app.config.settings import Settings
from app.kernel import _kernel
from app.model.orders import tick_of_order_id
from app.model.tick import TICK_DTYPE
from app.runtime.lifecycle import (
    EXIT_INCOMPLETE,
    EXIT_OK,
    POLL_S,
    SUPERVISED,
    FatalError,
    Overdue,
    RunFailed,
    Stop,
)
from app.runtime.log import get_logger
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.net.order_client import OrderClient, StopRequested
from app.runtime.net.position_queries import held, position_rows
from app.runtime.net.replica import replica_number
from app.runtime.process import run_process
from app.runtime.trace.writer import StrategyTrace, TraceSegment
from app.shared_memory_utils.tick_ring import LATEST, LOSSLESS
from app.strategy.attach import attach, fingerprint
from app.strategy.base import Signals, Ticks, load_strategy
from app.strategy.counters import StrategyCounters
from app.strategy.end_of_run import report_run, settle
from app.strategy.engine import MAX_BATCH_TICKS, Engine
from app.strategy.failure import StrategyError
from app.strategy.kit.outcome import NEVER_ANSWERED_OTHERWISE, outcome_of
from app.strategy.recovery import History, agree_on_decimals, announce_position, last_order_id
from app.strategy.sentiment_feed import SentimentFeed

log = get_logger()

POLL_NS = int(POLL_S * 1e9)
PROGRESS_EVERY_S = 10.0


class StrategyProcess:
    """One strategy attached to the shared segments."""

    def __init__(self, settings: Settings, metrics: ProcessMetrics, stop: Stop) -> None:
        self.settings, self.metrics, self.stop = settings, metrics, stop
        self.book, self.ring, self.feed_id = attach(settings, metrics, stop)
        policy = LOSSLESS if settings.ring_policy == "lossless" else LATEST
        self.registration = self.ring.register(settings.strategy_client, policy, replica_number())
        self.reader = _kernel.TickReader(self.ring.buffer, self.registration.slot)
        self.engine = Engine(
            load_strategy(settings.strategy), self.book.get_symbols(), settings, self.book.proof
        )
        mark = fingerprint(settings, self.feed_id, self.engine.params.identity)
        self.client = f"{self.registration.name}@{mark}"
        self.counters = StrategyCounters(
            settings,
            metrics,
            self.engine,
            lambda: self.book.gaps,
            lambda: self.ring.state.next_seq,
            self.client,
        )
        self.sentiment = SentimentFeed(
            settings,
            self.engine.symbols,
            stop,
            self._heartbeat,
            lambda count: metrics.add("sentiment_received", count),
            sequenced=bool(self.feed_id),
            proof=metrics.stack_proof,
        )
        self.trace = StrategyTrace(TraceSegment.open(settings, metrics), self.client)
        self.orders = OrderClient.from_settings(
            settings,
            stop=stop,
            heartbeat=self._heartbeat_in_wait,
            count=metrics.add,
            client=self.client,
            proof=self.book.proof,
            on_sent=self.trace.sent,
            scale=self.engine.scale,
        )
        self._batch = np.zeros(MAX_BATCH_TICKS, TICK_DTYPE)
        self._shown = self._batch.view()
        self._shown.flags.writeable = False  # a strategy reads it
        self._decision_ages = self.counters.decision_ages
        self._traced = settings.log_level == "DEBUG"
        self._next_heartbeat_ns = 0
        self._next_progress_s = time.monotonic() + PROGRESS_EVERY_S
        self._stale = self._running = False
        self._state = "ready"
        # In a replay a strategy trades the whole run, even if it joins late; live, the rest of it.
        self._whole_run = settings.resends_run
        if not self.registration.returning:
            metrics.set("joined_at", 0 if self._whole_run else self.reader.position)

    @property
    def finished(self) -> bool:
        """Whether the run is over and every tick of it is consumed."""
        state = self.ring.state
        ended = state.end_seq is not None and state.end_seq == state.next_seq
        return ended and self.reader.position == state.published

    def recover(self) -> None:
        """Show the strategy the ticks that it saw before a restart, or missed by joining late.

        In a replay it sends the same orders under the same ids again: the order manager answers
        from its store, which restores the positions, and executes nothing twice.  Otherwise the
        positions come from the order manager, and no order is sent for missed ticks, nor for ticks
        up to that of the last order: the positions are newer than those ticks, so the strategy
        could decide differently on them.
        """
        proof = self.metrics.stack_proof
        if self._whole_run and self.feed_id:
            # The gateway's position may be lost with the shared memory; stored orders outlive both.
            last_id = last_order_id(self.orders, self.client)
            if last_id is not None:
                announce_position(self.settings, self.feed_id, last_id, proof)
        next_seq, orders = self.reader.next_seq(), self.engine.context.orders
        # What a restart that repeats nothing places now was placed before it.
        orders.deaf = next_seq > 0 and not self._whole_run
        self.engine.start(self.counters.note if next_seq == 0 else None)
        if next_seq == 0:
            return
        log.info("catching_up", ticks=next_seq, resends_orders=self._whole_run)
        started_s = time.monotonic()
        count = 0
        history = History(
            self.settings, self.engine.symbols, self.feed_id, self.stop, self._heartbeat, proof
        )
        for ticks in history.batches(next_seq):
            self.sentiment.reach(int(ticks["seq"][-1]))
            for piece, signals in self._decisions(ticks):
                if self._whole_run:
                    self._trade(piece, signals, time.monotonic_ns(), counted=False)
                else:
                    self.engine.follow(piece)
                self._heartbeat()
            count += len(ticks)
        if self.stop:
            raise StopRequested
        if not self._whole_run:
            self._restore_positions()
            orders.deaf = False
        log.info("caught_up", ticks=count, took_s=round(time.monotonic() - started_s, 3))

    def _restore_positions(self) -> None:
        """Ask the order manager for the positions, and skip the ticks decided before them."""
        symbols = self.engine.symbols
        if self.engine.places or self.settings.order_mode != "every":
            for symbol, qty in held(self.orders.ask, self.client, self.engine.scale).items():
                self.engine.hold(symbols.index(symbol), qty)
        if self.engine.told:
            for row in position_rows(self.orders.ask, self.client):
                self.engine.context.desk.restore(symbols.index(row["symbol"]), row)
        last_id = last_order_id(self.orders, self.client)
        if last_id is not None:
            last_seq, next_seq = tick_of_order_id(last_id), self.ring.state.next_seq
            if last_seq >= next_seq:
                log.warning("orders_ahead", client=self.client, id=last_id, seq=next_seq)
            self._skip_decided_ticks(last_seq)

    def _skip_decided_ticks(self, last_seq: int) -> None:
        """Show the strategy the ring's ticks up to ``last_seq``, but send no order for them.

        A process killed after an order's answer, before it moves its cursor, leaves such ticks.
        """
        while not self.stop and self.reader.next_seq() <= last_seq:
            if self.reader.wait(POLL_NS):
                ticks, _ = self._next_ticks()
                ticks = ticks[: int(np.searchsorted(ticks["seq"], last_seq, "right"))]
                if len(ticks):
                    self.sentiment.reach(int(ticks["seq"][-1]))
                    for piece, signals in self._decisions(ticks):
                        self.engine.follow(piece)
                        self.reader.advance(len(piece))
                        self.counters.count_batch(signals, time.monotonic_ns())
            elif self.finished:
                return
            self._heartbeat()
            self._maintain()

    def run(self) -> None:
        """Consume ticks until the run is over or a stop is requested.

        Raises:
            StopRequested: stopped with unanswered orders; they are repeated after a restart.
        """
        self._running = True
        self.engine.context.desk.log_to(self.counters.note)
        self.counters.listen()
        while not self.stop:
            if self.reader.wait(POLL_NS):
                self._take_batch()
            elif self.finished:
                return
            now_ns = time.monotonic_ns()
            if now_ns >= self._next_heartbeat_ns:
                self._heartbeat()
                self._maintain()

    def _take_batch(self) -> None:
        """Hot path: counters are updated after the orders are answered."""
        ticks, last_seq = self._next_ticks()
        if last_seq >= self.sentiment.complete_before and not self.sentiment.by_arrival:
            self.sentiment.reach(int(ticks["seq"][0]))
            ready = int(np.searchsorted(ticks["seq"], self.sentiment.complete_before))
            ticks = ticks[:ready]
        if not len(ticks):
            return
        for piece, signals in self._decisions(ticks):
            decided_ns = time.monotonic_ns()
            self._trade(piece, signals, decided_ns, counted=True)
            _kernel.record_ages(self._decision_ages, piece, decided_ns)
            if self._traced:
                self.counters.trace(piece, signals)
            self.reader.advance(len(piece))
            self.counters.count_batch(signals, decided_ns)
            if self.engine.told and decided_ns >= self._next_heartbeat_ns:
                self._heartbeat()

    def _next_ticks(self) -> tuple[npt.NDArray[np.void], int]:
        """The next batch, a checked copy, and its last sequence."""
        count = self.reader.copy(self._batch)
        return self._shown[:count], self.reader.last_seq if count else 0

    def _decisions(self, ticks: npt.NDArray[np.void]) -> Iterator[tuple[Ticks, Signals]]:
        if self.sentiment.by_arrival:
            self.sentiment.take_arrived()
        return self.engine.decisions(ticks, self.sentiment.join)

    def _trade(
        self,
        ticks: npt.NDArray[np.void],
        signals: npt.NDArray[np.int8],
        decided_ns: int,
        *,
        counted: bool,
    ) -> None:
        for intents, orders in self.engine.orders(ticks, signals, self.client):
            self.trace.begin(intents, orders, decided_ns, live=counted)
            sent_ns = time.monotonic_ns()
            answers = self.orders.submit(orders)
            done_ns = time.monotonic_ns()
            qtys: list[int] = []
            for intent, answer in zip(intents, answers, strict=True):
                if answer.code in NEVER_ANSWERED_OTHERWISE:
                    mend = NEVER_ANSWERED_OTHERWISE[answer.code]
                    raise FatalError(f"{answer.msg}: {mend}", final=True)
                qtys.append(self.engine.qty(intent))
                self.engine.settle(intent, answer.filled_of(qtys[-1]))
            self.counters.add_trades(intents, answers)
            due_ns = self.counters.due_ns(intents) if counted else [0] * len(intents)
            self.trace.acked(answers, due_ns, done_ns)
            if counted:
                self.counters.count_orders(intents, answers, due_ns, sent_ns, done_ns)
            if self.engine.told:
                for intent, qty, answer in zip(intents, qtys, answers, strict=True):
                    self.engine.tell(intent, qty, outcome_of(answer, qty, self.engine.scale))

    def _heartbeat(self) -> None:
        self._show_staleness()
        self._next_heartbeat_ns = time.monotonic_ns() + POLL_NS
        self.counters.publish(self.reader)

    def _heartbeat_in_wait(self) -> None:
        """During a wait for an answer: the order manager may not take orders of a replaced ring."""
        self._heartbeat()
        self._check_segments()

    def _check_segments(self) -> None:
        if self.stop:
            return  # perhaps of a run that is over: its segments are gone
        for segment in (self.ring, self.book):
            if not segment.is_current():
                raise FatalError(
                    f"shared memory segment {segment.name} was removed or replaced; restarting"
                )

    def _show_staleness(self) -> None:
        """Tell the health check when prices, sentiment or the order manager are gone too long."""
        waiting_s = max(self.sentiment.waiting_s, self.orders.waiting_s)
        waits = waiting_s > self.settings.heartbeat_timeout_s
        state = "stale" if self._stale or waits else "ready"
        if self._running and state != self._state:
            self._state = state
            self.metrics.set_state(state)

    def _maintain(self) -> None:
        """A few times a second: check orderbook, ring and order manager, log progress."""
        self.orders.maintain()
        age_s = self.ring.heartbeat_age_s()
        stale = age_s > self.settings.heartbeat_timeout_s
        if stale and not self._stale:
            ignored = self.engine.stale(age_s, repeated=self._whole_run)
            log.warning("book_stale", age_s=round(age_s, 3), **ignored)
        elif self._stale and not stale:
            log.info("book_fresh")
        self._stale = stale
        self._check_segments()
        now_s = time.monotonic()
        if now_s >= self._next_progress_s:
            self._next_progress_s = now_s + PROGRESS_EVERY_S
            self.counters.log_progress(self.reader)

    def leave(self) -> None:
        """Free the slot in the ring at the end of the run."""
        self.ring.leave(self.registration.slot)

    def close(self) -> None:
        """Release everything but the ring slot: a restarted process of this name resumes there."""
        self._heartbeat()
        self.orders.close()
        self.sentiment.close()
        self.counters.close()
        del self.reader
        self.ring.close()
        self.book.close()


def _body(settings: Settings, metrics: ProcessMetrics, stop: Stop) -> int:
    if settings.deadline_s:
        started_ns = metrics.get("started_ns") or time.monotonic_ns()
        metrics.set("started_ns", started_ns)
        stop.set_deadline(started_ns / 1e9 + settings.deadline_s, settings.deadline_s)
    profit = None
    try:
        client = _consume(settings, metrics, stop)
        if client:
            profit = settle(settings, metrics, stop, client)
    except (StopRequested, Overdue):
        pass
    except StrategyError as error:
        if settings.replay == "once" and SUPERVISED not in os.environ:
            log.error("fatal", error=str(error), **error.details)
            stop.clear_deadline()
            report_run(settings, str(error), fault=True)
        raise FatalError(str(error), final=True, details=error.details) from error
    stop.clear_deadline()
    if profit is None and (settings.replay != "once" or stop.shm_owner_died or stop.new_run):
        return EXIT_OK
    if profit is None and SUPERVISED in os.environ:
        # The supervisor restarts this process, or reports on the run that it has cut short.
        raise RunFailed(EXIT_INCOMPLETE, stop.reason, over=False)
    if profit is None:
        return report_run(settings, stop.reason or "stopped", final=stop.overdue)
    return report_run(settings, "", profit=profit)


def _consume(settings: Settings, metrics: ProcessMetrics, stop: Stop) -> str:
    """Run the strategy; its client's name if the run has ended, "" if only this process has."""
    process = StrategyProcess(settings, metrics, stop)
    log.info(
        "attached",
        client=process.client,
        strategy=settings.strategy,
        params=process.engine.params.text,
        position=process.reader.position,
        returning=process.registration.returning,
    )
    try:
        process.sentiment.connect()
        agree_on_decimals(process.orders, process.engine.scale)
        process.recover()
        metrics.set_state("ready")
        process.run()
        process.engine.stop()
        if not process.finished:
            return ""
        process.counters.log_left_open()
        process.leave()
        return process.client
    except _kernel.Damaged as error:
        # The orderbook notices, and writes the run again in a new ring.
        process.ring.unlink()
        raise FatalError(f"damaged: {error}; starting over from tick 0") from None
    finally:
        process.close()


def main() -> int:
    """Run the strategy.

    Exit code 0: a complete run, or a run without an end stopped; 1: fault; 2: invalid settings; 3:
    incomplete run; 4: an expectation missed.
    """
    number = replica_number()
    return run_process("strategy", _body, "" if number in (None, 1) else str(number))
