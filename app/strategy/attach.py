"""How a strategy finds its run: the orderbook's segments, and the client name of its orders."""

import hashlib
import time
from typing import Any, Final, get_type_hints

import msgspec

from app.config.kinds import Qty
from app.config.settings import Settings
from app.model.money import Scale
from app.runtime.lifecycle import FatalError, Stop
from app.runtime.log import get_logger
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.net.order_client import StopRequested
from app.shared_memory_utils.metadata import SharedMemoryMetadata
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.segment import SegmentMissing
from app.shared_memory_utils.tick_ring import TickRing
from app.strategy.base import load_strategy, params_of, strategy_source

log = get_logger()


DECIDING_SETTINGS: Final = frozenset(
    {
        "strategy",
        "strategy_params",
        "short_window_ticks",
        "long_window_ticks",
        "bullish_threshold",
        "bearish_threshold",
        "qty_decimals",
        "order_qty",
        "order_mode",
        "sentiment_join",
        "trading_mode",
        "venue",
    }
)
"""Settings that decide which orders a run sends, or how they are answered.  Those that begin with
``risk_`` or ``paper_`` do so, too: answers are stored, and other limits need new answers."""

SAME_SETTINGS: Final = (
    "set the variables that the stack was started with "
    "(DATA_PATH, REPLAY, SEED, STRATEGY_PARAMS, QTY_DECIMALS, PAPER_..., RISK_...)"
)
"""What to do if a run has another mark than the settings here."""


ADDED_LATER: Final = {
    "paper_half_spread_bps": 0.0,
    "paper_fee_per_share": 0.0,
    "paper_fee_bps": 0.0,
    "paper_fee_min": 0.0,
    "paper_impact_bps": 0.0,
    "paper_impact_qty": 0.0,
    "paper_borrow_bps_year": 0.0,
    "qty_decimals": 0,
    "paper_latency_ms": 0.0,
}
"""Settings that count only if they are not these: runs kept their names when they were added."""

PARAMS: Final = "strategy_params"
"""Decides, too; its text may name a file, so the values count, those that are not the default."""

_QUANTITIES: Final = [name for name, kind in get_type_hints(Settings).items() if kind == Qty]


def decides_orders(name: str) -> bool:
    """Whether a setting is included in :func:`fingerprint`."""
    return name in DECIDING_SETTINGS or name.startswith(("risk_", "paper_"))


def fingerprint(settings: Settings, feed_id: str, params: str = "") -> str:
    """Hash of everything that decides the orders of a run: 8 hex digits.

    ``params``: what :attr:`Params.identity` says of the strategy's parameters.

    ``feed_id`` stands for data and seed.  The hash is part of the client name of the orders: the
    same run repeats the same ids, so resending is safe, and another run never uses them.
    """
    values = _canonical(settings).items()
    parts = [
        feed_id,
        *(
            (name, value)
            for name, value in values
            if decides_orders(name) and name != PARAMS and ADDED_LATER.get(name) != value
        ),
    ]
    if params:
        parts.append((PARAMS, params))
    code = strategy_source(settings.strategy)
    return hashlib.sha256(repr(parts).encode() + code).hexdigest()[:8]


def _canonical(settings: Settings) -> dict[str, Any]:
    """All settings; a quantity in units, because 0.5 and 0.50 are the same."""
    values = msgspec.structs.asdict(settings)
    scale = Scale(settings.qty_decimals)
    for name in _QUANTITIES:
        units = scale.qty_units(values[name])
        values[name] = values[name] if units is None else units
    return values


def mark_of(settings: Settings, feed_id: str) -> str:
    """The :func:`fingerprint` of a run with these settings, whose strategy is not loaded yet.

    Raises:
        SettingsError: STRATEGY_PARAMS is wrong.
        StrategyError: the strategy cannot be loaded.
    """
    params = params_of(load_strategy(settings.strategy), settings)
    return fingerprint(settings, feed_id, params.identity)


def attach(
    settings: Settings, metrics: ProcessMetrics, stop: Stop
) -> tuple[SharedPriceBook, TickRing, str]:
    """Wait for the orderbook's segments of this run; containers may start in any order.

    Raises:
        FatalError: they did not appear within ``ATTACH_TIMEOUT_S``, and no gateway is loading.
        StopRequested: a stop was requested meanwhile.
    """
    deadline = time.monotonic() + settings.attach_timeout_s
    waiting_logged = behind = False
    while not stop:
        try:
            with SharedMemoryMetadata(settings.shm_metadata, create=False) as metadata:
                values = metadata.read()
            # An order manager that has not noticed a new run yet would take its orders for the old
            # one.
            behind = metrics.is_behind("order_manager")
            if values and values.get("run", 0) == metrics.run and not behind:
                ring = TickRing.attach(settings.shm_tick_ring)
                book = SharedPriceBook(name=settings.shm_price_book, create=False)
                if values.get("boot_id") == f"{book.boot_id:016x}" and ring.writer_alive():
                    return book, ring, str(values.get("feed_id", ""))
                ring.close()
                book.close()
        except SegmentMissing:
            pass
        if not waiting_logged:
            log.info("waiting_for_orderbook", segments=settings.shm_metadata)
            waiting_logged = True
        if time.monotonic() > deadline:
            if behind:
                raise FatalError(
                    "the order manager has not started again for this run; does it run?"
                )
            if metrics.is_starting("gateway"):  # a large file takes as long as it takes
                deadline = time.monotonic() + settings.attach_timeout_s
                continue
            raise FatalError(
                f"no live orderbook on {settings.shm_tick_ring} within "
                f"{settings.attach_timeout_s:g} s; is it running with the same SHM_* names?"
            )
        metrics.heartbeat()
        time.sleep(0.02)
    raise StopRequested
