"""Random histories of the order core against its oracle, with lost batches and restarts."""

import random
from typing import Any, NamedTuple

import msgspec

from app.execution.accounts import ACTIVE, HALTED, KILLED, REDUCE, STACK_CLIENT_NO, Account
from app.execution.costs.borrow import Borrow
from app.execution.costs.fees import Fees
from app.execution.costs.slippage import Slippage
from app.execution.order_core import OrderCore
from app.execution.paper_exchange import PaperExchange
from app.execution.pending_rows import PendingRows, Recovered
from app.execution.prices import BookPrice
from app.execution.risk import RiskGate
from app.execution.risk_config import Limits, RiskConfig
from app.model.orders import BUY, OPEN_STATES, SELL, STATUS_NAMES, TIFS, TYPE_NAMES, TYPES, Order
from app.model.position import Costs, Position
from app.model.reject_codes import RejectCode
from app.model.requests import OrderRequest, Reject
from tests.support.orders.oracle import Oracle
from tests.support.orders.oracle_state import ALL, DAY_NS, UNITS, Book, Rules
from tests.support.orders.prices import PROOF

CLIENTS = ("ann", "bob", "cem")
STRATEGYS = frozenset(("ann",))
SYMBOLS = ("AAPL", "MSFT")
MODES = {"active": ACTIVE, "reduce": REDUCE, "halted": HALTED, "killed": KILLED}
START_NS = 1_760_000_000 * UNITS


class BookPrices:
    """The oracle's book as a price source."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def read(self, symbol: str) -> BookPrice | None:
        found = self._book.prices.get(symbol)
        if found is None:
            return None
        price, age_ns, seq, event_ns = found
        return BookPrice(price, age_ns, seq, None, event_ns)

    def knows(self, symbol: str) -> bool | None:
        return None

    def at_tick(self, proof: str | None) -> bool | None:
        return False if proof is None else True if proof == PROOF else None


class MemoryStore:
    """An order store in dictionaries."""

    def __init__(self) -> None:
        self.pending = PendingRows()
        self.clients: dict[int, str] = {}
        self.orders: dict[int, Order] = {}
        self.states: dict[int, tuple[int, int, int]] = {}
        self.positions: dict[tuple[int, str], tuple[int, int, int, int, int]] = {}
        self.modes: dict[int, int] = {}
        self.days: dict[int, tuple[int, int]] = {}
        self.fills: dict[int, tuple[int, int, int]] = {}

    def find(self, client_no: int, order_id: int) -> Order | None:
        for order in self.pending.orders:
            if (order.client_no, order.id) == (client_no, order_id):
                return order.copy()
        for order in self.orders.values():
            if (order.client_no, order.id) == (client_no, order_id):
                return order.copy()
        return None

    def current(self, order: Order) -> Order:
        pending = self.pending.states.get(order.order_no)
        if pending is not None:
            return pending[0]
        if order.order_no in self.states:
            order.status, order.filled_qty, order.filled_notional = self.states[order.order_no]
        return order

    def _fill(self, fill_no: int, order_no: int, qty: int, price: int) -> None:
        assert fill_no not in self.fills, f"execution {fill_no} twice"
        self.fills[fill_no] = (order_no, qty, price)

    def commit(self) -> None:
        pending = self.pending
        self.clients.update(pending.clients)
        for order in pending.orders:
            assert order.order_no not in self.orders, f"order {order.order_no} twice"
            self.orders[order.order_no] = order
            if order.exec_count == 1:
                self._fill(order.exec_first, order.order_no, order.filled_qty, order.exec_price)
        for row in pending.fills:
            fill_no, order_no, _, qty, price = row[:5]
            self._fill(fill_no, order_no, qty, price)
        for key, p in pending.positions.items():
            sums = (p.qty, p.cost, p.realized, p.mark, p.fill_no)
            self.positions[key] = (*sums, *p.costs, p.since_ns)
        for order_no, (order, _, _) in pending.states.items():
            self.states[order_no] = (order.status, order.filled_qty, order.filled_notional)
        for client_no, mode, _, _ in pending.controls:
            self.modes[client_no] = mode
        for client_no, account in pending.days.items():
            self.days[client_no] = (account.day, account.day_base)
        pending.clear()

    def discard_batch(self) -> None:
        self.pending.discard()

    def load(self) -> Recovered:
        high = dict.fromkeys(self.clients, -1)
        for order in self.orders.values():
            high[order.client_no] = max(high[order.client_no], order.id)
        numbers = sorted(no for no, state in self.states.items() if state[0] in OPEN_STATES)
        return Recovered(
            clients={no: (name, high[no]) for no, name in self.clients.items()},
            positions={key: Position(*values) for key, values in self.positions.items()},
            open_orders=[self.current(self.orders[n].copy()) for n in numbers],
            modes=dict(self.modes),
            days=dict(self.days),
            last_order_no=max(self.orders, default=0),
            last_fill_no=max(self.fills, default=0),
            last_client_no=max(self.clients, default=0),
        )


class Setup(NamedTuple):
    """One random configuration, for the core and for the oracle."""

    config: RiskConfig
    slippage_bps: int
    fill_percent: int
    half_spread_bps: int = 0
    fees: tuple[float, float, float] = (0, 0, 0)
    impact: tuple[float, float] = (0, 0)
    borrow_bps: float = 0


def random_setup(rng: random.Random) -> Setup:
    """Limits so tight that short histories reach them; most of them are off in each setup."""

    def sometimes(*values: int, odds: float = 0.25) -> int:
        return rng.choice(values) if rng.random() < odds else 0

    def limits(loose: int) -> Limits:
        return Limits(
            qty_max=sometimes(60, 90) * loose,
            notional_max=sometimes(6000, 9000) * loose * UNITS,
            position_qty_max=sometimes(50, 120) * loose,
            exposure_max=sometimes(8000, 20000) * loose * UNITS,
            open_orders_max=sometimes(1, 2) * loose,
            daily_loss_max=sometimes(20, 200) * loose * UNITS,
            orders_per_s_max=sometimes(1, 2, 5) * loose,
            repeats_max=sometimes(1, 2) * loose,
        )

    age_ms = sometimes(50, 500, odds=0.2)
    config = RiskConfig(
        client=limits(1),
        stack=limits(2),
        tick_size=sometimes(UNITS // 4, odds=0.1),
        lot_size=sometimes(5, odds=0.1),
        price_collar_bps=sometimes(300, odds=0.5) if age_ms else 0,
        price_age_ms_max=age_ms,
        replaying=rng.random() < 0.5,
    )
    slippage_bps, fill_percent = sometimes(10, 37), rng.choice((100, 100, 30))
    free = (0, 0, 0)
    fees = rng.choice((free, free, free, (0.005, 0, 1), (0, 2.5, 0), (0.000000001, 0.3, 0.07)))
    impact = rng.choice(((0, 0), (0, 0), (7.5, 30), (25, 7), (300, 0.5)))
    borrow_bps = rng.choice((0, 0, 50, 1234.5))
    return Setup(config, slippage_bps, fill_percent, sometimes(5), fees, impact, borrow_bps)


class World:
    """The core and the oracle side by side."""

    def __init__(self, setup: Setup, store: Any) -> None:
        self.book = Book()
        self.setup = setup
        self.marks: dict[str, int] = {}
        self.store = store
        config = setup.config
        rules = [Rules(**msgspec.structs.asdict(one)) for one in (config.client, config.stack)]
        self.oracle = Oracle(
            self.book,
            *rules,
            tick_size=config.tick_size,
            lot_size=config.lot_size,
            collar_bps=int(config.price_collar_bps),
            age_ns_max=config.price_age_ms_max * 1_000_000,
            window_ns=int(config.repeat_window_s * UNITS),
            replay=config.replaying,
            slippage_bps=setup.slippage_bps + setup.half_spread_bps,
            fees=setup.fees,
            impact=setup.impact,
            borrow_bps=setup.borrow_bps,
            strategys=STRATEGYS,
            fill_percent=setup.fill_percent,
        )
        self.core = self._new_core()

    def _new_core(self) -> OrderCore:
        prices = BookPrices(self.book)
        gate = RiskGate(self.setup.config, prices, Account(STACK_CLIENT_NO, ""))
        setup = self.setup
        slippage = Slippage(setup.slippage_bps, setup.half_spread_bps, *setup.impact)
        venue = PaperExchange(prices, slippage, setup.fill_percent, 0, Fees(*setup.fees))
        borrow = Borrow(setup.borrow_bps, STRATEGYS.__contains__)
        core = OrderCore(gate, venue, self.store.pending, self.store, borrow=borrow)
        core.recover(self.store.load())
        return core

    # Both at once

    def submit(self, request: dict[str, Any], now_ns: int) -> None:
        """A new order, with the marks of its connection."""
        expected = self.oracle.submit(dict(request), now_ns, self.marks)
        asked = OrderRequest(
            side=BUY if request["side"] == "BUY" else SELL,
            symbol=request["symbol"],
            qty=request["qty"],
            price=request["price"],
            ts=request["ts"],
            id=request["id"],
            client=request["client"],
            type=TYPES.get(request["type"], 0),
            tif=TIFS[request["tif"]],
            proof=request["proof"],
        )
        result = self.core.submit(asked, now_ns, self.marks)
        if isinstance(result, Reject):
            found: tuple[Any, ...] = ("reject", result.code.name, result.retryable)
        else:
            found = ("ack", result[1], _state(result[0]))
        assert found == expected, f"{request}: core {found}, oracle {expected}"

    def cancel(self, client: str, order_id: int, now_ns: int) -> None:
        """Cancel, then ask for the status."""
        expected = self.oracle.cancel(client, order_id)
        self._same(expected, self.core.cancel(client, order_id, now_ns))
        self._same(self.oracle.status(client, order_id), self.core.status(client, order_id))

    def _same(self, expected: tuple[Any, ...], result: Order | Reject) -> None:
        if isinstance(result, Reject):
            assert expected == ("reject", result.code.name), (expected, result)
        else:
            assert expected == ("ok", _state(result)), (expected, result)

    def set_mode(self, account: str, mode: str, now_ns: int) -> None:
        """Halt, resume, reduce or kill."""
        expected = self.oracle.set_mode(account, mode)
        name = None if account == ALL else account
        result = self.core.set_mode(name, MODES[mode], "", now_ns)
        assert (None if isinstance(result, Reject) else result) == expected, (account, mode)

    def poll(self, now_ns: int) -> None:
        """Check resting orders against the book."""
        self.oracle.poll(now_ns)
        self.core.poll(now_ns)

    def commit(self) -> None:
        """End the batch with a commit."""
        self.oracle.commit()
        self.store.commit()

    def discard_batch(self) -> None:
        """End the batch with a store that failed."""
        self.oracle.discard_batch()
        self.store.discard_batch()
        self.core.recover(self.store.load())

    def restart(self) -> None:
        """Crash in the middle of a batch and restart from the store."""
        self.oracle.discard_batch()
        self.store.discard_batch()
        self.core = self._new_core()

    def compare(self) -> None:
        """Positions, profit, open orders and modes agree."""
        oracle, core = self.oracle, self.core
        opened = {(core.name_of(o), o.id): _state(o) for o in core.open.values()}
        assert opened == {(o.client, o.id): o.state() for o in oracle.open_orders(ALL)}
        for name, symbol, position in core.positions():
            holding = oracle.holding(name, symbol)
            assert position.qty == holding.qty, (name, symbol)
            for cost in Costs._fields:
                assert getattr(position, cost) == getattr(holding, cost), (name, symbol, cost)
            assert position.since_ns == holding.since
            at_ns = START_NS + 77 * DAY_NS + 1
            owed = holding.owes(oracle.borrow_bps, at_ns)
            assert position.accrued(core.borrow.rate, at_ns) == owed, (name, symbol)
            assert position.realized - position.cost == holding.cash, (name, symbol)
            assert abs(position.realized - holding.realized) <= holding.closings, (name, symbol)
            if position.qty:
                assert position.avg_cost is not None
                off = abs(position.avg_cost - holding.average)
                assert off <= holding.closings + 1, (name, symbol, off)
            assert position.open_buy == oracle.resting(name, symbol, "BUY")
            assert position.open_sell == oracle.resting(name, symbol, "SELL")
        held = {(n, s) for (n, s), h in oracle.state.holdings.items() if n != ALL and h.qty}
        assert held == {(n, s) for n, s, p in core.positions() if p.qty}
        for account in (core.stack, *core.clients.values()):
            name = ALL if account is core.stack else account.name
            assert core.gate.profit_today(account) + account.day_base == oracle.profit(name), name
            assert MODES[oracle.state.modes.get(name, "active")] == account.mode, name


def _state(order: Order) -> tuple[Any, ...]:
    code = RejectCode(order.code).name if order.code else ""
    status = STATUS_NAMES[order.status]
    return order.id, status, order.filled_qty, order.filled_notional, code


def random_order(rng: random.Random) -> dict[str, Any]:
    """An order in a small world, so that ids, symbols and limits collide."""
    kind = rng.choice(("PLAIN", "PLAIN", "MARKET", "LIMIT", "LIMIT"))
    price = rng.choice((95, 99, 100, 101, 105)) * UNITS + rng.choice((0, 0, 1, UNITS // 3))
    default_tif = "DAY" if kind == "LIMIT" else "IOC"
    return {
        "client": rng.choice(CLIENTS),
        "id": rng.choice((None, rng.randint(0, 9), rng.randint(0, 99))),
        "side": rng.choice(("BUY", "SELL")),
        "symbol": rng.choice(SYMBOLS),
        "qty": rng.choice((1, 7, 10, 50, 100)),
        "price": None if kind == "MARKET" and rng.random() < 0.5 else price,
        "type": kind,
        "tif": rng.choice((default_tif, "IOC", "GTC", "DAY")),
        "proof": rng.choice((None, None, PROOF, PROOF, rng.choice((PROOF, "other")))),
        "ts": rng.choice((None, None, '"2025-10-01 09:30:00"', "1759397400", "1759311000.5")),
    }


def run_history(seed: int, setup: Setup, store: Any, steps: int = 12) -> None:
    """One random history; AssertionError at the first difference."""
    rng = random.Random(seed)
    world = World(setup, store)
    now_ns, last = START_NS, None
    for _ in range(steps):
        now_ns += rng.choice((0, 1_000_000, 300_000_000, 2 * UNITS, rng.choice((0, DAY_NS))))
        draw = rng.random()
        if draw < 0.5 or last is None:
            last = random_order(rng)
            world.submit(last, now_ns)
        elif draw < 0.6:
            world.submit(last, now_ns)
        elif draw < 0.68:
            world.cancel(
                rng.choice(CLIENTS), rng.choice((last["id"] or 1, rng.randint(0, 9))), now_ns
            )
        elif draw < 0.76:
            account = rng.choice((ALL, *CLIENTS))
            world.set_mode(account, rng.choice(("active", "active", *MODES)), now_ns)
        else:
            symbol = rng.choice(SYMBOLS)
            seq = world.book.prices.get(symbol, (0, 0, 0, 0))[2] + rng.randint(0, 1)
            price = rng.choice((94, 98, 100, 102, 106)) * UNITS + rng.randint(0, 5)
            age_ns = rng.choice((0, 100_000_000, UNITS))
            event_ns = START_NS + rng.choice((-1, 0, 0, 1)) * DAY_NS
            world.book.prices[symbol] = (price, age_ns, seq, event_ns)
            if rng.random() < 0.7:
                world.marks[symbol] = price + rng.choice((-8, 0, 0, 8)) * UNITS
            world.poll(now_ns)
        draw = rng.random()
        if draw < 0.4:
            world.commit()
        elif draw < 0.45:
            world.discard_batch()
        elif draw < 0.5:
            world.restart()
    world.compare()


assert TYPE_NAMES[0] == "PLAIN"
