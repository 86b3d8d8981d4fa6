"""A page that follows the stream, however it is interrupted, has what a new page gets."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dashboard.hub import KEPT, Everything, Hub, Snapshot
from app.dashboard.sources.market import Point

SYMBOLS = ("A", "B")


class World:
    """What has happened: the truth that pages are compared with."""

    def __init__(self) -> None:
        self.orders: dict[int, dict[str, Any]] = {}
        self.profit: list[tuple[float, float, float]] = []
        self.series: dict[str, list[Point]] = {symbol: [] for symbol in SYMBOLS}
        self.number = 0
        self.hub = Hub(
            self.everything,
            lambda symbol: self.series[symbol],
            lambda symbol: symbol if symbol in SYMBOLS else "A",
        )

    def everything(self) -> Everything:
        return Everything({}, None, list(self.orders.values()), list(self.profit))

    def go_on(self, *, reset: bool = False) -> None:
        """One more snapshot: an order, a point of profit, a point of each symbol."""
        self.number += 1
        if reset:
            self.orders.clear()
            self.profit.clear()
            self.series = {symbol: [] for symbol in SYMBOLS}
        row = {"order_no": self.number // 2, "status": self.number}
        self.orders[self.number // 2] = row
        self.profit.append((self.number, 1.0, 2.0))
        points = {s: [Point(self.number, 0.0, 1.0, None, None, None, 0)] for s in SYMBOLS}
        for symbol, new in points.items():
            self.series[symbol] += new
        state = json.dumps({"n": self.number}).encode()
        self.hub.publish(Snapshot(self.number, state, [row], self.profit[-1:], points, reset))


class Page:
    """Reads messages as the page in the browser does."""

    def __init__(self, hub: Hub, symbol: str) -> None:
        self.hub, self.symbol, self.last_id = hub, symbol, ""
        self.orders: dict[int, dict[str, Any]] = {}
        self.profit: list[Any] = []
        self.seqs: list[int] = []
        self.resets = 0
        self.connect()

    def connect(self) -> None:
        self.stream = self.hub.messages((self.symbol,), self.last_id)

    async def read(self) -> None:
        """One message, if there is one."""
        try:
            message = await asyncio.wait_for(anext(self.stream), 0.01)
        except TimeoutError:
            self.connect()
            return
        head, _, data = message.decode().partition("\n")
        assert data.endswith("\n\n")
        self.last_id = head.removeprefix("id: ")
        body = json.loads(data.removeprefix("data: "))
        if body.get("reset"):
            self.resets += 1
            self.orders, self.profit, self.seqs = {}, [], []
        self.orders |= {row["order_no"]: row for row in body["orders"]}
        self.profit += body["profit"]
        self.seqs += body["series"]["seq"]

    def check(self, world: World) -> None:
        assert self.orders == world.orders
        assert [tuple(row) for row in self.profit] == world.profit
        assert self.seqs == [point.seq for point in world.series[self.symbol]]


ACTIONS = st.lists(
    st.sampled_from(("go on", "read", "break", "new run", "long break")), max_size=40
)


@given(ACTIONS, st.sampled_from(SYMBOLS))
def test_whatever_interrupts_it_the_page_has_everything_once(
    actions: list[str], symbol: str
) -> None:
    async def run() -> None:
        world = World()
        world.go_on()
        page = Page(world.hub, symbol)
        for action in actions:
            if action == "go on":
                world.go_on()
            elif action == "new run":
                world.go_on(reset=True)
            elif action == "long break":
                page.connect()
                for _ in range(KEPT + 1):
                    world.go_on()
            elif action == "break":
                page.connect()
            else:
                await page.read()
        await page.read()
        await page.read()
        page.check(world)

    asyncio.run(run())


@pytest.mark.parametrize("symbol", ["", "GONE"])
def test_a_page_without_a_symbol_follows_the_first_one(symbol: str) -> None:
    """Not only when it is opened."""

    async def run() -> None:
        world = World()
        page = Page(world.hub, symbol)
        for _ in range(5):
            world.go_on()
            await page.read()
        page.symbol = "A"
        page.check(world)
        assert page.resets == 1

    asyncio.run(run())


def test_a_page_that_was_away_shortly_gets_only_what_it_missed() -> None:
    async def run() -> None:
        world = World()
        world.go_on()
        page = Page(world.hub, "A")
        await page.read()
        for _ in range(KEPT - 2):
            world.go_on()
        page.connect()
        await page.read()
        assert page.resets == 1
        page.check(world)

    asyncio.run(run())


def test_all_pages_of_a_symbol_get_the_same_bytes() -> None:
    """Each message is made once: fifty pages cost no more than their sending."""

    async def run() -> None:
        world = World()
        world.go_on()
        streams = [world.hub.messages(("A",), "") for _ in range(50)]
        messages = [await anext(stream) for stream in streams]
        assert len({id(message) for message in messages}) == 1
        world.go_on()
        assert len({id(await anext(stream)) for stream in streams}) == 1

    asyncio.run(run())


def test_a_stream_of_several_pages_has_the_symbol_of_each() -> None:
    async def run() -> None:
        world = World()
        world.go_on()
        several = world.hub.messages(("B", "", "X"), "")
        alone = {symbol: world.hub.messages((symbol,), "") for symbol in ("B", "", "X")}
        for reset in (True, False, False, True):
            body = body_of(await anext(several))
            others = body.pop("others")
            assert list(others) == ["", "X"]
            for symbol, stream in alone.items():
                assert body | others.get(symbol, {}) == body_of(await anext(stream))
            assert body.get("reset", False) == reset
            assert {each.get("symbol") for each in others.values()} == ({"A"} if reset else {None})
            world.go_on(reset=world.number == 3)

    asyncio.run(run())


def body_of(message: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(message.partition(b"data: ")[2])
    return found


def test_an_id_of_another_process_or_of_nobody_gets_everything() -> None:
    hub = World().hub
    for text in ("", "x", "-", "deadbeef-3", f"{hub._boot}-", f"{hub._boot}-²", f"{hub._boot}-9e9"):
        assert hub.known(text) is None
    assert hub.known(f"{hub._boot}-7") == 7


def test_the_streams_end_with_the_hub() -> None:
    async def run() -> None:
        world = World()
        world.go_on()
        stream = world.hub.messages(("A",), "")
        await anext(stream)
        world.hub.end()
        assert [message async for message in stream] == []

    asyncio.run(run())
