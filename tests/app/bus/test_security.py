"""Who has no credentials, or those of another shard, can neither read nor write.

With the users that images/cluster/accounts.py makes, over TLS, against a real broker.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats.errors
import pytest

from app.bus.link.connection import BusRefused, Link
from tests.support.bus.accounts import Bus, bus_with_accounts
from tests.support.bus.history import expected, published
from tests.support.bus.reading import read_out, stored
from tests.support.bus.shard import ShardProcess
from tests.support.children import eventually
from tests.support.orders.frames import ORDER
from tests.support.orders.process import OrderManagerProcess

pytestmark = pytest.mark.medium

API = "$JS.API"


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    with bus_with_accounts(tmp_path_factory.mktemp("accounts")) as made:
        made.as_user("setup", lambda link: link.js.publish("orders.a", b'{"secret":1}'))
        made.as_user("setup", lambda link: link.js.publish("control.a", b'{"secret":2}'))
        yield made


def numbers(bus: Bus) -> dict[str, int]:
    """Stream -> its last sequence number."""

    async def ask(link: Link) -> dict[str, int]:
        names = ("OUT_a", "OUT_b", "MD_a", "MD_b", "CONTROL", "MAP")
        infos = [await link.js.stream_info(name) for name in names]
        return {name: info.state.last_seq for name, info in zip(names, infos, strict=True)}

    return bus.as_user("setup", ask)


def test_without_credentials_nobody_comes_in(bus: Bus) -> None:
    with pytest.raises(BusRefused, match="does not let a client without credentials in"):
        bus.as_user("", lambda link: asyncio.sleep(0))


def test_with_a_wrong_password_nobody_comes_in(bus: Bus, tmp_path: Path) -> None:
    file = bus.creds("shard-z")
    file.write_text("shard-a:0000\n")
    with pytest.raises(BusRefused, match="does not let the user 'shard-a' in"):
        bus.as_user("shard-z", lambda link: asyncio.sleep(0))


READS: list[tuple[str, dict[str, Any]]] = [
    (f"{API}.STREAM.INFO.OUT_a", {}),
    (f"{API}.STREAM.MSG.GET.OUT_a", {"seq": 1}),
    (f"{API}.STREAM.MSG.GET.CONTROL", {"last_by_subj": "control.a"}),
    (f"{API}.DIRECT.GET.OUT_a.orders.a", {}),
    (f"{API}.DIRECT.GET.OUT_a", {"seq": 1}),
    (f"{API}.DIRECT.GET.CONTROL.control.a", {}),
    (f"{API}.STREAM.NAMES", {}),
    (f"{API}.STREAM.LIST", {}),
    (f"{API}.CONSUMER.MSG.NEXT.CONTROL.shard-a", {"batch": 1, "expires": 100_000_000}),
    (f"{API}.CONSUMER.CREATE.OUT_a", {"stream_name": "OUT_a", "config": {"name": "x"}}),
    (f"{API}.CONSUMER.CREATE.CONTROL.x", {"stream_name": "CONTROL", "config": {"name": "x"}}),
]
WRITES: list[tuple[str, dict[str, Any]]] = [
    ("orders.a", {"run": "forged"}),
    ("fills.a", {"run": "forged"}),
    ("md.a", {}),
    ("beats.a", {}),
    ("control.a", {"id": "forged", "mode": "halt"}),
    ("control.b", {"id": "forged", "mode": "resume"}),
    ("map", {}),
    (f"{API}.STREAM.CREATE.OUT_x", {"name": "OUT_x", "subjects": ["orders.x"]}),
    (f"{API}.STREAM.UPDATE.OUT_a", {"name": "OUT_a", "subjects": ["orders.b"]}),
    (f"{API}.STREAM.DELETE.OUT_a", {}),
    (f"{API}.STREAM.PURGE.OUT_a", {}),
    (f"{API}.STREAM.MSG.DELETE.OUT_a", {"seq": 1}),
    (f"{API}.CONSUMER.DELETE.CONTROL.shard-a", {}),
    ("$JS.ACK.CONTROL.shard-a.1.1.1.1.1", {}),
]


@pytest.mark.parametrize("user", ["shard-b", "gateway-b"])
def test_another_shards_credentials_neither_read_nor_write(bus: Bus, user: str) -> None:
    before = numbers(bus)

    async def attempt(link: Link, subject: str, body: dict[str, Any]) -> str:
        try:
            answer = await link.client.request(subject, json.dumps(body).encode(), timeout=0.5)
        except (nats.errors.Error, TimeoutError):
            return ""
        return f"{subject}: {answer.data!r}"

    async def attack(link: Link) -> list[str]:
        tried = [attempt(link, subject, body) for subject, body in (*READS, *WRITES)]
        tried += [
            attempt(link, subject.replace(API, "BUS.API"), body)
            for subject, body in (*READS, *WRITES)
            if subject.startswith(API)
        ]
        return [answer for answer in await asyncio.gather(*tried) if answer]

    assert bus.as_user(user, attack) == []
    assert numbers(bus) == before


def test_nobody_else_hears_what_is_sent(bus: Bus) -> None:
    heard: list[str] = []

    async def note(message: Any) -> None:
        heard.append(message.subject)

    async def listen(link: Link) -> None:
        for subject in (
            ">",
            "orders.>",
            "orders.a",
            "beats.*",
            "beats.a",
            "_INBOX.>",
            "_INBOX.shard-a.>",
            "$JS.>",
        ):
            await link.client.subscribe(subject, cb=note)
        await link.client.flush()
        # Its own, so that it is known to hear at all.
        await link.client.subscribe("_INBOX.shard-b.own", cb=note)
        await asyncio.to_thread(
            bus.as_user, "setup", lambda setup: setup.js.publish("orders.a", b"{}")
        )
        info = "BUS.API.STREAM.INFO.OUT_b"
        await link.client.publish(info, b"", reply="_INBOX.shard-b.own")
        for _ in range(100):
            if heard:
                break
            await asyncio.sleep(0.02)

    bus.as_user("shard-b", listen)
    assert heard == ["_INBOX.shard-b.own"]


def test_the_brokers_answer_cannot_be_sent_into_another_shards_stream(bus: Bus) -> None:
    """A request may name any subject for its answer, and permissions do not look at that."""
    before = numbers(bus)

    async def reflect(link: Link) -> None:
        for subject in ("orders.b", "BUS.API.STREAM.INFO.OUT_b"):
            for target in ("orders.a", "fills.a", "control.a", "md.a", "map"):
                await link.client.publish(subject, b"", reply=target)
        await link.client.flush()
        await asyncio.sleep(0.3)

    bus.as_user("shard-b", reflect)
    after = numbers(bus)
    assert after.pop("OUT_b") > before.pop("OUT_b"), "its own stream takes its messages"
    assert after == before


def test_a_gateway_makes_no_consumer_that_could_deliver_into_another_shards_stream(
    bus: Bus,
) -> None:
    bus.as_user("sequencer", lambda link: link.js.publish("md.b", b"ticks"))
    before = numbers(bus)

    async def deliver(link: Link) -> None:
        for number, target in enumerate(("orders.a", "control.a", "md.a", "map")):
            config = {"name": f"x{number}", "deliver_subject": target, "ack_policy": "none"}
            body = json.dumps({"stream_name": "MD_b", "config": config}).encode()
            api = f"BUS.API.CONSUMER.CREATE.MD_b.x{number}"
            with contextlib.suppress(nats.errors.Error):
                await link.client.request(api, body, timeout=0.5)
        await asyncio.sleep(0.3)

    bus.as_user("gateway-b", deliver)
    assert numbers(bus) == before


def test_with_its_own_credentials_a_shard_publishes_and_takes_controls(tmp_path: Path) -> None:
    with (
        bus_with_accounts(tmp_path / "accounts") as bus,
        OrderManagerProcess(tmp_path / "stack") as manager,
        ShardProcess(bus.cluster, manager, **bus.settings("shard-a")) as shard,
    ):
        with manager.client() as client:
            for number in range(50):
                client.ask({**ORDER, "id": number, "client": "desk"})
            shard.wait_published(100)
            body = b'{"id": "c1", "mode": "reduce", "by": "portfolio"}'
            bus.as_user("portfolio", lambda link: link.js.publish("control.a", body))
            eventually(lambda: client.ask({"op": "limits"})["mode"] == "reduce", "reduce")
        assert shard.stop() == 0
        kinds = expected(manager.store_path)
        assert published(read_out(bus.cluster, "a", **bus.settings("portfolio"))) == kinds
        assert "bus_denied" not in shard.log()
        with pytest.raises(nats.errors.Error):
            bus.as_user("portfolio", lambda link: link.js.publish("orders.a", b"{}", timeout=1))
        assert len(bus.as_user("setup", lambda link: stored(link, "OUT_a"))) == 100
