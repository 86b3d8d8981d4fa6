"""iceoryx2's Python binding, as in its examples: typed ctypes payloads, loaned, not copied.

The throughput run polls (example ``publish_subscribe``, without its pause); the latency runs wait
for events (``event_based_communication``, ``request_response``), without spinning, like this stack.
"""

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.model import Context, Figures, Placement
from tests.bench.peers.common import (
    chain_figures,
    need,
    round_trips,
    send_on_schedule,
    start_soon,
)
from tests.bench.subjects.processes import Link, Role, run_roles

TICKS = 300_000
BUFFER_TICKS = 1024


class Tick(ctypes.Structure):
    """The content of a frame as a struct: nothing is parsed."""

    _fields_ = (
        ("event_ns", ctypes.c_int64),
        ("recv_ns", ctypes.c_int64),
        ("price", ctypes.c_double),
        ("symbol", ctypes.c_uint32),
        ("stop", ctypes.c_uint32),
    )

    @staticmethod
    def type_name() -> str:
        """The type name, the same at both ends."""
        return "Tick"


class Order(ctypes.Structure):
    """An order and its answer, as a struct."""

    _fields_ = (
        ("id", ctypes.c_int64),
        ("qty", ctypes.c_int64),
        ("price", ctypes.c_double),
        ("symbol", ctypes.c_uint32),
        ("side", ctypes.c_uint32),
        ("status", ctypes.c_uint32),
    )

    @staticmethod
    def type_name() -> str:
        """The type name, the same at both ends."""
        return "Order"


class Bus:
    """The node of one process in a domain, and the services that it opens."""

    def __init__(self, domain: str) -> None:
        import iceoryx2 as iox2

        iox2.set_log_level(iox2.LogLevel.Error)
        config = iox2.config.default()
        config.global_cfg.prefix = iox2.FileName.new(domain)
        self._iox2 = iox2
        self._node = iox2.NodeBuilder.new().config(config).create(iox2.ServiceType.Ipc)

    def _service(self, name: str) -> Any:
        return self._node.service_builder(self._iox2.ServiceName.new(name))

    def ticks(self, name: str) -> Any:
        """A lossless publish/subscribe service of ticks."""
        return (
            self._service(name)
            .publish_subscribe(Tick)
            .enable_safe_overflow(False)
            .subscriber_max_buffer_size(BUFFER_TICKS)
            .open_or_create()
        )

    def publisher(self, name: str) -> Any:
        """A publisher that waits when the subscriber's buffer is full."""
        wait = self._iox2.BackpressureStrategy.RetryUntilDelivered
        return self.ticks(name).publisher_builder().backpressure_strategy(wait).create()

    def subscriber(self, name: str) -> Any:
        """A subscriber that buffers up to BUFFER_TICKS."""
        return self.ticks(name).subscriber_builder().buffer_size(BUFFER_TICKS).create()

    def orders(self) -> Any:
        """The request/response service."""
        return self._service("orders").request_response(Order, Order).open_or_create()

    def notifier(self, name: str) -> Any:
        """Wakes the listeners of ``name``."""
        return self._service(name).event().open_or_create().notifier_builder().create()

    def listener(self, name: str) -> Any:
        """Waits for the notifiers of ``name``."""
        return self._service(name).event().open_or_create().listener_builder().create()


def _publish(link: Link, domain: str, count: int) -> None:
    publisher = Bus(domain).publisher("ticks")
    link.meet()
    link.meet()
    tick = Tick(price=187.25)
    for i in range(count):
        tick.event_ns = i
        publisher.loan_uninit().write_payload(tick).send()
    link.meet()


def _subscribe(link: Link, domain: str, count: int) -> float:
    # Open in turn: two processes that create a service concurrently may not find each other.
    link.meet()
    subscriber = Bus(domain).subscriber("ticks")
    receive = subscriber.receive
    link.meet()
    while receive() is None:
        pass
    start, got = time.perf_counter(), 1
    while got < count:
        sample = receive()
        if sample is not None:
            got += 1
    rate = (count - 1) / (time.perf_counter() - start)
    if sample.payload().contents.event_ns != count - 1:
        raise AssertionError("ticks were lost")
    link.meet()
    return rate


@contextmanager
def _domain() -> Iterator[str]:
    """A prefix for every file of one run; files left with this prefix are removed."""
    need("iceoryx2")
    prefix = f"bench_{os.getpid()}_{time.monotonic_ns()}_"
    try:
        yield prefix
    finally:
        for folder in (Path("/dev/shm"), Path("/tmp/iceoryx2")):
            for path in folder.rglob(f"{prefix}*"):
                path.unlink(missing_ok=True)


def throughput(context: Context) -> Figures:
    """Single ticks over publish/subscribe, received and discarded."""
    count = context.scaled(TICKS)
    with _domain() as domain:
        _, rate = run_roles([Role(_publish, (domain, count)), Role(_subscribe, (domain, count))])
    return {"ticks_per_s": rate}


def _serve(bus: Bus, meet: Callable[[], object]) -> None:
    """Answer orders until one with status 9."""
    server = bus.orders().server_builder().create()
    listener, notifier = bus.listener("order"), bus.notifier("ack")
    meet()
    while True:
        listener.blocking_wait()
        while (request := server.receive()) is not None:
            order = request.payload().contents
            if order.status == 9:
                return
            answer = Order(id=order.id, qty=order.qty, price=order.price, status=1)
            request.loan_uninit().write_payload(answer).send()
            request.delete()
            notifier.notify()


def _client(bus: Bus) -> tuple[Callable[[], object], Callable[[], object]]:
    """Two functions: send one order and wait for its answer; stop the server."""
    client = bus.orders().client_builder().create()
    listener, notifier = bus.listener("ack"), bus.notifier("order")
    order = Order(id=1, qty=10, price=187.25)

    def ask() -> None:
        pending = client.loan_uninit().write_payload(order).send()
        notifier.notify()
        while (response := pending.receive()) is None:
            listener.blocking_wait()
        response.delete()
        pending.delete()

    def stop() -> None:
        client.loan_uninit().write_payload(Order(status=9)).send()
        notifier.notify()

    return ask, stop


def _order_manager(link: Link, domain: str) -> None:
    _serve(Bus(domain), link.meet)
    link.meet()


def _asker(link: Link, domain: str, paced: int, free: int) -> Figures:
    bus = Bus(domain)
    link.meet()
    ask, stop = _client(bus)
    figures = round_trips(ask, paced, free)
    stop()
    link.meet()
    return figures


def orders(context: Context) -> Figures:
    """Order and answer over request/response, woken by events."""
    paced, free = context.latency_ticks, context.scaled(15_000)
    with _domain() as domain:
        roles = [Role(_order_manager, (domain,)), Role(_asker, (domain, paced, free))]
        return run_roles(roles)[1]


def _chain_gateway(link: Link, domain: str, count: int) -> None:
    bus = Bus(domain)
    publisher, notifier = bus.publisher("wire"), bus.notifier("wire")
    link.meet()
    link.meet()
    start_ns = start_soon()
    link.meet(start_ns)
    tick = Tick(price=187.25)

    def send(i: int) -> None:
        tick.event_ns = i
        publisher.loan_uninit().write_payload(tick).send()
        notifier.notify()

    send_on_schedule(send, start_ns, count)
    link.meet()


def _chain_orderbook(link: Link, domain: str, count: int) -> None:
    bus = Bus(domain)
    subscriber, listener = bus.subscriber("wire"), bus.listener("wire")
    publisher, notifier = bus.publisher("ring"), bus.notifier("ring")
    link.meet()
    link.meet()
    link.meet()
    done = 0
    while done < count:
        listener.blocking_wait()
        while (sample := subscriber.receive()) is not None:
            recv_ns = time.monotonic_ns()
            tick = Tick.from_buffer_copy(sample.payload().contents)
            sample.delete()
            tick.recv_ns = recv_ns
            publisher.loan_uninit().write_payload(tick).send()
            notifier.notify()
            done += 1
    link.meet()


def _chain_strategy(link: Link, domain: str, count: int) -> Figures:
    bus = Bus(domain)
    subscriber, listener = bus.subscriber("ring"), bus.listener("ring")
    link.meet()
    ask, stop = _client(bus)
    link.meet()
    start_ns = link.meet()[0]
    stamps: list[tuple[int, int, int]] = []
    while len(stamps) < count:
        listener.blocking_wait()
        while (sample := subscriber.receive()) is not None:
            tick = sample.payload().contents
            number, recv_ns = tick.event_ns, tick.recv_ns
            sample.delete()
            ask()
            stamps.append((number, recv_ns, time.monotonic_ns()))
    stop()
    link.meet()
    return chain_figures(start_ns, stamps)


def _chain_order_manager(link: Link, domain: str) -> None:
    def meet() -> None:
        link.meet()
        link.meet()
        link.meet()

    _serve(Bus(domain), meet)
    link.meet()


def chain(context: Context, place: Placement) -> Figures:
    """The stack's four processes; all hops in shared memory, woken by events."""
    count = context.latency_ticks
    with _domain() as domain:
        functions = (
            (_chain_gateway, (domain, count)),
            (_chain_orderbook, (domain, count)),
            (_chain_strategy, (domain, count)),
            (_chain_order_manager, (domain,)),
        )
        roles = [Role(*what, cpus=cpus) for what, cpus in zip(functions, place.lists, strict=True)]
        return run_roles(roles)[2]
