"""Reads everything five times a second, and makes of it one snapshot for all open pages.

Without a page it only keeps what cannot be read again later: nobody looks, so nothing is computed.
"""

import asyncio
import time
from collections import deque
from typing import Any, Final

import msgspec

from app.config.settings import Settings
from app.dashboard.commands import Commands, market_of
from app.dashboard.hub import Everything, Hub, Snapshot
from app.dashboard.sources import processes
from app.dashboard.sources.desk import ORDERS_MAX, REFUSED_MAX, Desk
from app.dashboard.sources.market import Market, Point
from app.dashboard.sources.processes import ProcessReader
from app.dashboard.sources.proof import Proof
from app.dashboard.sources.sentiment import Sentiments
from app.runtime.log import get_logger
from app.runtime.metrics.figures import Sample
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.run.strategy_params import given_text, with_params

log = get_logger()

EVERY_S: Final = 0.2
IDLE_S: Final = 0.5
"""Without a page; heartbeats need it."""
PROFIT_MAX: Final = 1200
"""Points of the profit's history."""
SPEED_WINDOW_S: Final = 2.0


class Sampler:
    """The readers, and what of their data the pages get."""

    def __init__(self, settings: Settings, metrics: ProcessMetrics, commands: Commands) -> None:
        settings = with_params(settings)
        self.settings, self._metrics, self._commands = settings, metrics, commands
        self.hub = Hub(self._everything, self._points, self._shown)
        self._processes = ProcessReader(settings.shm_metrics, settings.heartbeat_timeout_s)
        self._sentiments = Sentiments(settings)
        self.market = Market(settings, self._sentiments)
        self.desk = Desk(settings)
        self.proof = Proof(lambda: self.desk.run_id)
        self._number = 0
        self._generation = -1
        self._orders: dict[int, dict[str, Any]] = {}
        self._profit: deque[tuple[float, float, float]] = deque(maxlen=PROFIT_MAX)
        self._profit_at_s, self._profit_run = 0.0, ""
        self._latency: dict[str, Any] | None = None
        self._times: deque[tuple[float, int, int]] = deque()
        self._taken_s = 0.0

    async def run(self) -> None:
        """Sample until it is canceled."""
        due_s = time.monotonic()
        while True:
            self._metrics.heartbeat()
            self.read()
            due_s = max(due_s + (EVERY_S if self.hub.pages else IDLE_S), time.monotonic())
            await asyncio.sleep(due_s - time.monotonic())

    def page_opened(self) -> None:
        """A page begins: it sees what is, not what was when the last page was closed."""
        self.hub.pages += 1
        self._metrics.set("pages", self.hub.pages)
        self.desk.is_watched(True)
        self.proof.start()
        if time.monotonic() - self._taken_s > 2 * EVERY_S:
            self.read()

    def page_closed(self) -> None:
        """A page is gone."""
        self.hub.pages -= 1
        self._metrics.set("pages", self.hub.pages)
        self.desk.is_watched(self.hub.pages > 0)

    def read(self) -> None:
        """Read everything, and publish it if there are pages."""
        if not self._metrics.is_of_this_run:
            self._metrics.go_along()
        sample = self._processes.read()
        self.market.attach()
        gateway = processes.current(sample, "gateway") if sample else []
        if any(process.counters["ticks_sent"] for process in gateway):
            self._sentiments.read(of_stack=any(process.alive for process in gateway))
        changed, reset = self._take_orders()
        profit = self._take_profit()
        if not self.hub.pages:
            self.market.rest()
            return
        self.market.read()
        if self.market.generation != self._generation:
            self._generation, reset = self.market.generation, True
        self._taken_s = time.monotonic()
        self._number += 1
        self._metrics.add("snapshots")
        self._metrics.mark_event(time.monotonic_ns())
        latency = self._processes.latency(sample) if sample else None
        self._latency = latency or self._latency
        state = msgspec.json.encode(self._state(sample) | ({"latency": latency} if latency else {}))
        fresh = self.market.fresh()
        self.hub.publish(Snapshot(self._number, state, changed, profit, fresh, reset))

    def _take_orders(self) -> tuple[list[dict[str, Any]], bool]:
        """The orders that have changed, and whether all others are to be forgotten."""
        changed: dict[int, dict[str, Any]] = {}
        reset = False
        while not self.desk.changes.empty():
            each = self.desk.changes.get_nowait()
            if each.reset:
                reset = True
                self._orders.clear()
                changed.clear()
            changed.update((int(row["order_no"]), row) for row in each.rows)
        self._orders.update(changed)
        if len(self._orders) > ORDERS_MAX + REFUSED_MAX:
            for number in sorted(self._orders)[: -ORDERS_MAX - REFUSED_MAX]:
                del self._orders[number]
        return list(changed.values()), reset

    def _take_profit(self) -> list[tuple[float, float, float]]:
        """The new points of the profit's history: time, realised, unrealised."""
        if self.desk.run_id != self._profit_run:  # not after each restart of the order manager
            self._profit_run = self.desk.run_id
            self._profit.clear()
        account = self.desk.account
        if account.problem or account.at_s <= self._profit_at_s:
            return []
        self._profit_at_s = account.at_s
        total = account.total
        point = (round(time.time(), 2), float(total["realised"]), float(total["unrealised"]))
        self._profit.append(point)
        return [point]

    def _shown(self, symbol: str) -> str:
        symbols = self.market.symbols
        return symbol if symbol in symbols else next(iter(symbols), "")

    def _points(self, symbol: str) -> list[Point]:
        history = self.market.history(symbol) if symbol else None
        return list(history.points) if history else []

    def _everything(self) -> Everything:
        orders = list(self._orders.values())
        return Everything(self._static(), self._latency, orders, list(self._profit))

    def _static(self) -> dict[str, Any]:
        """What does not change while the page is open."""
        settings = self.settings
        return {
            "symbols": self.market.symbols,
            "short_window": settings.short_window_ticks,
            "long_window": settings.long_window_ticks,
            "bullish": settings.bullish_threshold,
            "bearish": settings.bearish_threshold,
            "strategy": settings.strategy,
            "strategy_params": given_text(settings),
            "strategy_client": settings.strategy_client,
            "order_qty": float(settings.order_qty) if settings.qty_decimals else settings.order_qty,
            "pace": settings.pace,
            "replay": settings.replay,
            "mode": settings.trading_mode,
            "losses": processes.loss_names(),
            "token": bool(settings.order_token_file),
            **self._commands.offers(),
        }

    def _state(self, sample: Sample | None) -> dict[str, Any]:
        return {
            "at_ms": round(time.time() * 1000),
            "problem": self._processes.problem or self.market.problem,
            "run": self._run(sample),
            "services": self._processes.services(sample) if sample else [],
            "losses": processes.losses(sample) if sample else [],
            "account": {**self._account(), "latency_cost": processes.latency_cost(sample)},
            "proof": {"line": self.proof.line, "problem": self.proof.problem},
            "prices": self.market.prices(),
            "sentiment": self._sentiments.problem,
            "pages": self.hub.pages,
        }

    def _run(self, sample: Sample | None) -> dict[str, Any]:
        event_ns, now_s = self.market.event_ns(), time.monotonic()
        found = processes.current(sample, "gateway") if sample else []
        counters = found[-1].counters if found else {}
        seq = self.market.next_seq
        speed = tick_rate = None
        if event_ns is not None and seq is not None:
            times = self._times
            if times and seq < times[-1][2]:
                times.clear()
            times.append((now_s, event_ns, seq))
            while len(times) > 2 and now_s - times[1][0] > SPEED_WINDOW_S:
                times.popleft()
            passed_s = now_s - times[0][0]
            if passed_s > 0:
                speed = round((event_ns - times[0][1]) / 1e9 / passed_s, 2)
                tick_rate = round((seq - times[0][2]) / passed_s, 1)
        return {
            "id": self.desk.run_id,
            "event_ms": None if event_ns is None else event_ns / 1e6,
            "seq": seq,
            "ticks_total": counters.get("ticks_total", 0),
            "sent": counters.get("ticks_sent", 0),
            "rate": tick_rate,
            "multiple": speed,
            "feed_age_s": self.market.feed_age_s(),
            "market": market_of(counters),
        }

    def _account(self) -> dict[str, Any]:
        account = msgspec.structs.asdict(self.desk.account)
        at_s = account.pop("at_s")
        account["age_s"] = round(time.monotonic() - at_s, 1) if at_s else None
        return account

    def problem(self) -> str:
        """Why there is nothing to show; empty if there is."""
        return self._processes.problem or self.market.problem

    async def close(self) -> None:
        """Release everything."""
        self.desk.stop()
        await self.proof.stop()
        self._sentiments.close()
        self.market.close()
