"""This stack: real processes, the gateway reading a file."""

import contextlib
import itertools
import selectors
import socket
import threading
from collections.abc import Iterator

from app.config.settings import Settings
from app.runtime.metrics.snapshot import ProcessSnapshot
from tests.bench.model import (
    ANYWHERE,
    RATE_PER_S,
    WARMUP_TICKS,
    Context,
    Figures,
    Placement,
)
from tests.bench.peers.common import round_trips
from tests.bench.subjects import ticks
from tests.bench.subjects.stack import Metrics, Stack, of, percentiles, settings_for

# The two signals never agree: the strategy computes everything and sends no order.
SILENT: dict[str, object] = {"bullish_threshold": 100, "bearish_threshold": 0}
# With rising prices and a sentiment of 90: BUY on every tick once the long window is full.
EVERY_TICK: dict[str, object] = {"order_mode": "every"}
# A killed order manager forgets them, so a restart cannot repeat their answers: nobody's default.
IN_MEMORY: dict[str, object] = {"order_store_path": ":memory:"}
LATENCY_SYMBOLS = 10
LATENCY_HISTOGRAMS = {
    "recv_to_ack": "tick_to_ack_ns",
    "scheduled_to_ack": "scheduled_to_ack_ns",
    "recv_to_decision": "tick_to_decision_ns",
    "order_to_ack": "order_ack_ns",
}
"""Figure name to the strategy's histogram."""
DRAIN_BYTES = 1 << 18
DRAIN_LOOK_S = 0.05
ORDER_FORM = b'{"side":"BUY","symbol":"AAPL","qty":10,"price":187.25,"id":%d,"client":"bench"}*'


def _rows(context: Context) -> int:
    """Many times the ring's places, so that it counts how fast its readers are, not how late."""
    return 1_000_000 if context.quick else 4_000_000


def _wire_rows(context: Context) -> int:
    """Enough rows for about 0.2 s, as long as raw loopback takes.

    The first 0.05 s are slower: the TCP window grows and the scheduler settles.
    """
    return 1_000_000 if context.quick else 8_000_000


def _slowest_per_s(found: Metrics, service: str) -> float:
    return min(each.events_per_s or 0.0 for each in of(found, service))


def _all_at(found: Metrics, service: str, events: int, count: int = 1) -> bool:
    """Whether ``count`` processes of the service have processed ``events`` events."""
    return sum(each.events >= events for each in of(found, service)) == count


def wire(context: Context, symbols: int, clients: int = 1, place: Placement = ANYWHERE) -> Figures:
    """Gateway to book and ring at full pace, with ``clients`` price clients in all."""
    rows = _wire_rows(context)
    settings = settings_for(
        context.work_dir,
        place,
        data_path=str(ticks.price_file(context.data_dir, rows, symbols)),
        pace="max",
        price_subscribers=clients,
        sentiment_subscribers=0,
    )
    with (
        Stack(settings, order_manager=False) as stack,
        _drain(clients - 1, settings.price_port, stack),
    ):
        found = stack.wait(
            f"{rows} ticks in the orderbook",
            lambda now: _all_at(now, "orderbook", rows),
        )
    return {"ticks_per_s": _slowest_per_s(found, "orderbook")}


@contextlib.contextmanager
def _drain(clients: int, port: int, stack: Stack) -> Iterator[None]:
    """``clients`` more price clients that resume from the start and discard what they receive."""
    if clients == 0:
        yield
        return
    stack.wait("gateway", lambda now: any(each.state == "ready" for each in of(now, "gateway")))
    selector, buffer = selectors.DefaultSelector(), bytearray(DRAIN_BYTES)

    over = threading.Event()

    def receive() -> None:
        while not over.is_set():
            for key, _ in selector.select(DRAIN_LOOK_S):
                if not key.fileobj.recv_into(buffer):  # type: ignore[union-attr]
                    selector.unregister(key.fileobj)

    thread = threading.Thread(target=receive, daemon=True)
    with contextlib.ExitStack() as open_sockets:
        for _ in range(clients):
            peer = open_sockets.enter_context(socket.create_connection(("127.0.0.1", port)))
            peer.sendall(b"RESUME|0*")
            selector.register(peer, selectors.EVENT_READ)
        thread.start()
        try:
            yield
        finally:
            # Most are not through yet when the orderbook is.
            over.set()
            thread.join()


def pipeline(context: Context, strategies: int = 1, symbols: int = 10) -> Figures:
    """Gateway, orderbook and strategies, lossless, at full pace; rate of the slowest strategy."""
    rows = _rows(context)
    settings = settings_for(
        context.work_dir,
        ANYWHERE,
        data_path=str(ticks.price_file(context.data_dir, rows, symbols)),
        sentiment_path=str(ticks.sentiment_file(context.data_dir, symbols)),
        pace="max",
        sentiment_subscribers=strategies,
        **SILENT,
    )
    names = [f"bench{i}" for i in range(strategies)]
    with Stack(settings, {name: {} for name in names}) as stack:
        found = stack.wait(
            f"{rows} ticks in every strategy",
            lambda now: _all_at(now, "strategy", rows, strategies),
        )
    lost = sum(each.counters["ticks_lost"] for each in of(found, "strategy"))
    if lost:
        raise AssertionError(f"{lost} ticks lost")
    return {"ticks_per_s": _slowest_per_s(found, "strategy")}


def _trader(found: Metrics, events: int) -> ProcessSnapshot | None:
    """The strategy that sends orders, once it has ``events`` ticks and all its answers."""
    for each in of(found, "strategy"):
        sent, acked = each.counters["orders_sent"], each.counters["orders_acked"]
        if sent and each.events >= events and acked + each.counters["orders_rejected"] >= sent:
            return each
    return None


def latency(
    context: Context,
    place: Placement,
    strategies: int = 1,
    synced: bool = True,
    traced: bool = True,
    stored: bool = True,
) -> Figures:
    """Tick to ACK at the fixed rate, one order per tick; further strategies send no orders.

    Not ``synced``: the kernel decides when a commit reaches the disk.  Not ``traced``: no trace of
    orders.  Not ``stored``: SQLite keeps them in the memory of the order manager, in no file.
    """
    # No orders until the long window of every symbol is full.
    quiet = 40 * LATENCY_SYMBOLS
    rows = quiet + context.latency_ticks
    settings = settings_for(
        context.work_dir,
        place,
        data_path=str(ticks.price_file(context.data_dir, rows, LATENCY_SYMBOLS, rising=True)),
        sentiment_path=str(ticks.sentiment_file(context.data_dir, LATENCY_SYMBOLS)),
        pace=f"{RATE_PER_S}/s",
        sentiment_subscribers=strategies,
        order_store_synchronous="FULL" if synced else "NORMAL",
        trace_orders=Settings().trace_orders if traced else 0,
        **({} if stored else IN_MEMORY),
    )
    others = {f"silent{i}": SILENT for i in range(1, strategies)}
    with Stack(settings, {"bench": EVERY_TICK, **others}) as stack:
        warm = stack.wait("warm-up", lambda now: bool(_trader(now, quiet + WARMUP_TICKS)))
        done = stack.wait(f"{rows} ticks", lambda now: bool(_trader(now, rows)))
    before, after = _trader(warm, 0), _trader(done, 0)
    if before is None or after is None:
        raise AssertionError("no strategy has sent orders")
    sent, rejected = after.counters["orders_sent"], after.counters["orders_rejected"]
    if rejected or sent < context.latency_ticks:
        raise AssertionError(
            f"{sent} orders for {context.latency_ticks} ticks, {rejected} rejected"
        )
    figures: Figures = {}
    for figure, name in LATENCY_HISTOGRAMS.items():
        if name in after.histograms:
            figures.update(percentiles(figure, after.histograms[name] - before.histograms[name]))
    return figures


def orders(context: Context, stored: bool = True) -> Figures:
    """Order to ACK at the real order manager, one client; durable if ``stored``."""
    kept: dict[str, object] = {} if stored else IN_MEMORY
    settings = settings_for(
        context.work_dir, ANYWHERE, risk_known_symbols=False, venue="echo", **kept
    )
    with Stack(settings, feed=False) as stack:
        stack.wait_ready()
        with socket.create_connection(("127.0.0.1", settings.order_port)) as peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            numbers = itertools.count(1)

            def ask() -> None:
                peer.sendall(ORDER_FORM % next(numbers))
                answer = peer.recv(4096)
                while not answer.endswith(b"*"):
                    answer += peer.recv(4096)
                if not answer.startswith(b'{"ok":true'):
                    raise AssertionError(answer)

            return round_trips(ask, context.latency_ticks, context.scaled(3_000))
