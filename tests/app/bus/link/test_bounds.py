"""Each stream has its own bound: none takes the room of another, and no order is removed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from nats.js import api
from nats.js.errors import APIError

from app.bus.link import names, streams
from app.bus.link.access import bus_access
from app.bus.link.connection import BusRefused, Link
from app.bus.outbox.setup import make_all
from app.config.settings import Settings, SettingsError
from tests.support.bus.broker import STREAM_BYTES, Cluster, cluster

MB = 1 << 20
BODY = bytes(64 * 1024)


@pytest.fixture(scope="module")
def broker() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


def over(broker: Cluster, work: Callable[[Link], Awaitable[Any]], **settings: object) -> Any:
    """Do something over a connection with these settings."""

    async def run() -> Any:
        access = bus_access(Settings.from_environ(broker.environ(**settings)))
        async with await Link.open(access, "test") as link:
            return await work(link)

    return asyncio.run(run())


async def fill(link: Link, subject: str, messages: int) -> str:
    """Publish so many; the broker's refusal, if any."""
    for _ in range(messages):
        try:
            await link.js.publish(subject, BODY)
        except APIError as error:
            return error.description or ""
    return ""


@pytest.mark.medium
def test_a_full_feed_leaves_room_for_orders_and_controls(broker: Cluster) -> None:
    async def run(link: Link) -> None:
        await make_all(link, ("full",), 1)
        assert await fill(link, "md.full", 40) == ""
        feed = (await link.js.stream_info("MD_full")).state
        assert feed.bytes <= MB
        assert (feed.first_seq > 1, feed.last_seq) == (True, 40)
        assert await fill(link, "orders.full", 40) == "maximum bytes exceeded"
        orders = (await link.js.stream_info("OUT_full")).state
        assert (orders.first_seq, orders.messages) == (1, orders.last_seq)
        assert await fill(link, "control.full", 1) == ""
        assert await fill(link, "md.full", 1) == ""

    over(broker, run, BUS_FEED_BYTES_MAX=MB, BUS_ORDERS_BYTES_MAX=MB)


@pytest.mark.medium
def test_setup_bounds_the_streams_of_an_earlier_version_and_can_be_repeated(
    broker: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    async def earlier(link: Link) -> None:
        for stream in (streams.md("old"), streams.out("old"), streams.control()):
            unbounded = stream.config(1, link.bounds).evolve(
                discard=api.DiscardPolicy.NEW, max_bytes=-1
            )
            await link.js.add_stream(unbounded)
            await link.js.publish(stream.subjects[0].replace("*", "old"), BODY)

    async def process(link: Link) -> None:
        """What a sequencer or a publisher does: it goes on, and says who can mend it."""
        for stream in (streams.md("old"), streams.out("old")):
            await streams.ensure(link, stream, 1)

    async def found(link: Link) -> list[tuple[str, int, int]]:
        await make_all(link, ("old",), 1)
        infos = [await link.js.stream_info(name) for name in ("MD_old", "OUT_old", "CONTROL")]
        return [(str(i.config.discard), i.config.max_bytes or 0, i.state.messages) for i in infos]

    with cluster() as fresh:
        over(fresh, earlier)
        over(fresh, process)
        for orders in (2 * MB, 2 * MB, 3 * MB):
            assert over(fresh, found, BUS_ORDERS_BYTES_MAX=orders) == [
                ("old", STREAM_BYTES, 1),
                ("new", orders, 1),
                ("new", streams.SMALL_BYTES, 1),
            ]
        over(fresh, process)


@pytest.mark.medium
def test_a_lower_bound_removes_no_order(broker: Cluster) -> None:
    async def first(link: Link) -> None:
        await make_all(link, ("low",), 1)
        assert await fill(link, "fills.low", 30) == ""

    async def lower(link: Link) -> None:
        await make_all(link, ("low",), 1)
        state = (await link.js.stream_info("OUT_low")).state
        assert (state.first_seq, state.messages) == (1, 30)
        assert await fill(link, "fills.low", 1) == "maximum bytes exceeded"

    over(broker, first, BUS_ORDERS_BYTES_MAX=4 * MB)
    over(broker, lower, BUS_ORDERS_BYTES_MAX=MB)


@pytest.mark.medium
def test_bounds_beyond_what_the_servers_may_store_are_refused_in_one_line() -> None:
    bounds = {"BUS_FEED_BYTES_MAX": MB, "BUS_ORDERS_BYTES_MAX": 100 * MB}
    says = r"OUT_a cannot have its bound .*BUS_ORDERS_BYTES_MAX"
    with (
        cluster(limits="max_file_store: 64MB") as small,
        pytest.raises(BusRefused, match=says) as no,
    ):
        over(small, lambda link: make_all(link, ("a",), 1), **bounds)
    assert "max_file_store" in str(no.value)
    assert "\n" not in str(no.value)


@pytest.mark.parametrize("name", ["BUS_FEED_BYTES_MAX", "BUS_ORDERS_BYTES_MAX"])
def test_a_stream_without_room_is_no_setting(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}=0: must be a whole number"):
        Settings.from_environ({name: "0"})


def test_only_ticks_are_ever_dropped() -> None:
    dropped = {
        stream.name
        for stream in (
            streams.md("a"), streams.out("a"), streams.control(), streams.shard_map()
        )
        if stream.discard == api.DiscardPolicy.OLD
    }  # fmt: skip
    assert dropped == {names.md_stream("a")}
