"""The interface of a strategy: ticks in, BUY, SELL, FLAT or HOLD out.

The simple form, one call per tick::

    class BuyTheDip(Strategy):
        def on_tick(self, tick):
            return "BUY" if tick.price < 100 else "HOLD"

The fast form, one call per batch, NumPy in and out::

    class BuyTheDip(Strategy):
        def on_batch(self, ticks):
            return (ticks["price"] < 100).astype(np.int8)

A decision may depend only on the ticks and the sentiment seen so far (no clock, no random numbers
without a fixed seed).  Then a run gives the same trades every time, even after a crash, from which
the stack recovers by showing the strategy the same ticks again.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt

from app.config.settings import Settings
from app.execution.costs.latency import Latency
from app.execution.costs.slippage import Slippage
from app.kernel import _kernel
from app.model.money import Scale
from app.model.position import Position
from app.strategy.failure import (
    Place,
    StrategyError,
    describe_tick,
    failure,
    place_of,
    place_of_class,
)
from app.strategy.kit.desk import Desk, Fill, Reject, money
from app.strategy.kit.order_desk import Order, OrderDesk
from app.strategy.kit.own_files import beside
from app.strategy.kit.params import Params, resolve
from app.strategy.kit.transit import Transit

Signals = npt.NDArray[np.int8]
Ticks = npt.NDArray[np.void]

BUY, SELL, FLAT, HOLD = "BUY", "SELL", "FLAT", "HOLD"
SIGNAL_NAMES = {1: BUY, -1: SELL, _kernel.FLAT: FLAT, 0: HOLD}
OLD_PACKAGE = "app.strategies"
"""The former package, which a user's file may still import."""


class Context:
    """What a strategy knows besides the ticks.

    ``symbols`` is indexed by a tick's ``symbol`` field.  ``sentiment``, int16, has one value per
    tick of the current batch: the latest sentiment of its symbol, 0 to 100, or -1 before the first.
    """

    def __init__(
        self, symbols: list[str], settings: Settings, params: Params | None = None
    ) -> None:
        self.symbols = symbols
        self.settings = settings
        scale = Scale(settings.qty_decimals)
        self.desk = Desk(symbols, scale)
        values = msgspec.structs.asdict(settings)
        latency = Latency.of_settings(values)
        self.orders = OrderDesk(symbols, Slippage.of_settings(values), latency, scale)
        self.transit = Transit(latency, symbols) if latency.ns else None
        self.params = params
        """By default a strategy reads them from the settings."""
        self.sentiment: npt.NDArray[np.int16] = np.empty(0, np.int16)

    @property
    def in_transit(self) -> int:
        """Orders that have not met the market because of the latency."""
        return 0 if self.transit is None else self.transit.count + self.orders.in_transit

    @property
    def transit_refused(self) -> int:
        """Orders of signals that were not made: too many were in transit."""
        return 0 if self.transit is None else self.transit.refused


class Strategy:
    """Base class of all strategies; override :meth:`on_tick` or :meth:`on_batch`.

    Parameters are declared on the class (:class:`app.strategy.kit.params.Param`).
    """

    timer_s: float = 0.0
    """Seconds of event time between two calls of :meth:`on_timer`."""
    history_ticks: int = 0
    """How many prices of each symbol :meth:`history` keeps."""
    sees_answers: bool | None = None
    """Whether each order is answered before the next tick is shown.  None: if the class has
    ``on_fill`` or ``on_reject``, or its methods ask for a position."""
    places_orders: bool | None = None
    """Whether it places orders itself and returns no signals.  None: if its methods use ``buy``,
    ``sell``, ``target``, ``cancel`` or ``open_orders``."""

    _desk: Desk
    _orders: OrderDesk

    def __new__(cls, context: Context, *_args: Any, **_named: Any) -> Self:
        """An instance that has the values of its parameters, before its ``__init__`` runs."""
        made = super().__new__(cls)
        made._desk, made._orders = context.desk, context.orders
        params = context.params or resolve(cls, context.settings)
        vars(made).update(params.values)
        return made

    def __init__(self, context: Context) -> None:
        self.context = context
        self._signals: Signals = np.empty(0, np.int8)
        self.failed_tick: tuple[Exception, dict[str, object]] | None = None
        """What on_tick raised, and the tick that it failed on."""

    def on_tick(self, tick: _kernel.Tick) -> str | None:
        """Decide on one tick (``symbol``, ``price``, ``event_ns``, ``seq``, ``sentiment``).

        Returns ``"BUY"``, ``"SELL"``, ``"FLAT"`` (close the position) or ``"HOLD"``; None: HOLD.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither on_tick nor on_batch")

    def on_batch(self, ticks: Ticks) -> Signals:
        """Decide on a batch: int8, one per tick, +1 BUY, -1 SELL, 2 FLAT, 0 HOLD.

        ``ticks`` has the fields of :data:`app.model.tick.TICK_DTYPE` and is a view of shared
        memory: copy what you keep.  The default calls :meth:`on_tick` for each tick.
        """
        signals = self.signal_buffer(len(ticks))
        symbols = self.context.symbols
        try:
            _kernel.call_on_tick(self.on_tick, ticks, self.context.sentiment, symbols, signals)
        except Exception as error:
            tick = ticks[int(np.argmax(signals == _kernel.UNDECIDED))]
            self.failed_tick = error, describe_tick(tick, symbols)
            raise
        return signals

    def on_start(self) -> None:
        """The run begins: called once, before the first tick."""

    def on_fill(self, fill: Fill) -> None:
        """An order was executed, at least in part: called before the next tick is shown."""

    def on_reject(self, reject: Reject) -> None:
        """An order was refused: called before the next tick is shown."""

    def on_timer(self, event_ns: int) -> None:
        """A period of ``timer_s`` of event time has begun at ``event_ns``.

        Called before the first tick in it, once even if several periods had no tick; not in the
        period of the run's first tick.
        """

    def on_stop(self) -> None:
        """The run is over, or this process is stopped.  After a kill nobody calls it."""

    def position(self, symbol: str | int) -> int | float:
        """The shares held, negative when short: an integer, or a float with QTY_DECIMALS."""
        return self._desk.scale.qty(self._desk.holding(symbol).qty)

    def average_price(self, symbol: str | int) -> float | None:
        """The average price of the shares held; None if there are none."""
        average = self._desk.holding(symbol).avg_cost
        return None if average is None else money(average)

    def realised(self, symbol: str | int | None = None) -> float:
        """Profit of closed positions in one symbol, by default in all."""
        return self._desk.scale.amount(self._desk.realised(symbol))

    def unrealised(self, symbol: str | int | None = None) -> float:
        """Profit of open positions at the latest prices, in one symbol or in all."""
        return self._desk.scale.amount(self._desk.unrealised(symbol))

    def holding(self, symbol: str | int) -> Position:
        """The exact account of one symbol: ``qty``, ``cost``, ``realized``.

        Integers: ``qty`` of 10^-QTY_DECIMALS, the others of 1e-9 times that.
        """
        return self._desk.holding(symbol)

    def history(self, symbol: str | int, count: int) -> npt.NDArray[np.float64]:
        """The last ``count`` prices of a symbol, that of this tick last; fewer at the start."""
        return self._desk.history(symbol, count)

    def buy(self, symbol: str | int, qty: float, limit: float | None = None) -> Order:
        """Place an order to buy, at the market or, with ``limit``, at that price or a better one.

        It is sent when the method that places it is done.  With QTY_DECIMALS, ``qty`` counts as the
        nearest number with so many decimals; without, it is an integer.  What :meth:`position`
        returned is all that is held, also where a float is too short for it.

        Raises:
            ValueError: an unknown symbol, a quantity or limit that no order can have.
        """
        return self._place(symbol, 1, qty, limit)

    def sell(self, symbol: str | int, qty: float, limit: float | None = None) -> Order:
        """Place an order to sell; as :meth:`buy`."""
        return self._place(symbol, -1, qty, limit)

    def target(self, symbol: str | int, qty: float) -> Order | None:
        """Place the market order that leads to a position of ``qty``; None if none is needed.

        It counts what is held and what open market orders will add, but no limit orders.  A target
        of 0 closes the position exactly, whatever its size.
        """
        index = self._desk.index_of(symbol)
        held = self._desk.holding(index).qty + self._orders.on_the_way(index)
        wanted = self._desk.exact_qty(index, qty) or self._desk.scale.own_qty(qty)
        if wanted is None:
            number = "number" if self._desk.scale.decimals else "whole number of shares"
            raise ValueError(f"qty {qty!r}: must be a {number}, negative to be short")
        missing = wanted - held
        if not missing:
            return None
        return self._place(index, 1 if missing > 0 else -1, abs(missing), None, in_units=True)

    def cancel(self, order: Order) -> bool:
        """Cancel what is left of an order; False if it was over already, which is no error."""
        return self._orders.cancel(order)

    @property
    def open_orders(self) -> tuple[Order, ...]:
        """The orders that may still be executed, in the sequence in which they were placed."""
        return self._orders.open_orders

    def _place(
        self,
        symbol: str | int,
        sign: int,
        qty: float,
        limit: float | None,
        *,
        in_units: bool = False,
    ) -> Order:
        if not self._orders.active:
            raise RuntimeError(
                "set places_orders = True on the class: its code does not show that it places "
                "orders, so it would not be told of their answers in time"
            )
        index = self._desk.index_of(symbol)
        if not in_units and (exact := self._desk.exact_qty(index, qty)):
            qty, in_units = exact, True
        return self._orders.place(index, sign, qty, limit, in_units=in_units)

    def log(self, text: str, **fields: object) -> None:
        """Write a line to the log, at most 20 a second; silent while a restart repeats ticks."""
        self._desk.note(text, fields)

    def on_stale(self, age_s: float) -> None:
        """The prices have been stale for ``age_s`` seconds: the orderbook is silent or cut off.

        Called once per silence.
        """

    def signal_buffer(self, count: int) -> Signals:
        """An int8 array of this length; every call returns the same memory."""
        if len(self._signals) < count:
            self._signals = np.zeros(max(count, 8192), np.int8)
        return self._signals[:count]


def load_strategy(spec: str) -> type[Strategy]:
    """The class that ``module:Class`` or ``path/to/file.py:Class`` names.

    A file may import others beside it, if no installed package has their name.

    Raises:
        StrategyError: no such file, module or class, an error during import, or not a Strategy.
    """
    source, _, name = spec.rpartition(":")
    try:
        if source.endswith(".py"):
            path = Path(source)
            found = importlib.util.spec_from_file_location(f"user_strategy_{path.stem}", path)
            if found is None or found.loader is None or not path.is_file():
                raise StrategyError(f"STRATEGY={spec}: no file {path}")
            folder = str(path.parent.resolve())
            if folder not in sys.path:
                sys.path.append(folder)
            module = importlib.util.module_from_spec(found)
            sys.modules[found.name] = module
            found.loader.exec_module(module)
        else:
            module = importlib.import_module(source)
    except StrategyError:
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == OLD_PACKAGE:
            reason = f"{OLD_PACKAGE} is now app.strategy: from app.strategy import Strategy"
            raise StrategyError(f"STRATEGY={spec}: {reason}") from error
        place = _place_of_import(error, source)
        raise failure(f"STRATEGY={spec}", error, place) from error
    strategy = getattr(module, name, None)
    if strategy is None:
        raise StrategyError(f"STRATEGY={spec}: {source} has no class {name}{_own_classes(module)}")
    if not (isinstance(strategy, type) and issubclass(strategy, Strategy)):
        raise StrategyError(f"STRATEGY={spec}: {name} is not a subclass of app.strategy.Strategy")
    return strategy


def _own_classes(module: ModuleType) -> str:
    """The strategies that are defined in a module, as the end of a message; empty if none is."""
    names = [
        name
        for name, found in vars(module).items()
        if isinstance(found, type)
        and issubclass(found, Strategy)
        and found.__module__ == module.__name__
    ]
    return f"; it has {', '.join(names)}" if names else ""


def params_of(strategy: type[Strategy], settings: Settings) -> Params:
    """The values of the strategy's parameters in a run with these settings.

    Raises:
        ParamError: STRATEGY_PARAMS is wrong.
        StrategyError: the parameters' declarations are.
    """
    try:
        return resolve(strategy, settings)
    except (TypeError, AttributeError) as error:
        raise failure(strategy.__name__, error, place_of_class(strategy)) from error


def _place_of_import(error: Exception, source: str) -> Place | None:
    """The line in the strategy's own file; None if the error is not from there."""
    module = sys.modules.get(source)
    file = source if source.endswith(".py") else getattr(module, "__file__", None)
    if file is None:
        try:
            found = importlib.util.find_spec(source)
        except (ImportError, ValueError):
            found = None
        file = found.origin if found else None
    return place_of(error, [file] if file else [])


def strategy_source(spec: str) -> bytes:
    """The source of the file that ``spec`` names, and of those beside it that it imports.

    Empty if it cannot be read.
    """
    source = spec.rpartition(":")[0]
    try:
        if source.endswith(".py"):
            path = Path(source)
            return b"".join(file.read_bytes() for file in (path, *beside(path)))
        found = importlib.util.find_spec(source)
        return Path(found.origin).read_bytes() if found and found.origin else b""
    except (OSError, ImportError, ValueError):
        return b""
