"""The connection to the bus and its streams, against real brokers."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import nats.errors
import nats.js.errors
import pytest
from nats.js import api

from app.bus.link import connection, names, streams
from app.bus.link.access import bus_access
from app.bus.link.acks import Ack, AckRefused, Acks
from app.bus.link.connection import BusRefused, BusUnavailable, Link
from app.config.settings import Settings, SettingsError
from tests.support.bus.broker import Cluster, cluster
from tests.support.children import eventually

T = TypeVar("T")


@pytest.fixture(scope="module")
def one() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


def talk(
    broker: Cluster, what: Callable[[Link], Awaitable[T]], name: str = "test", **more: object
) -> T:
    async def run() -> T:
        settings = Settings.from_environ(broker.environ(**more))
        async with await Link.open(bus_access(settings), name) as link:
            return await what(link)

    return asyncio.run(run())


def refused(broker: Cluster, **more: object) -> str:
    """The one line with which a connection or the stream OUT_a is refused."""
    with pytest.raises(BusRefused) as caught:
        talk(broker, lambda link: streams.ensure(link, streams.out("a"), broker.replicas), **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.medium
def test_a_stream_is_made_once_and_found_again(one: Cluster) -> None:
    async def twice(link: Link) -> list[api.StreamInfo]:
        return [await streams.ensure(link, streams.out("made"), 1) for _ in range(2)]

    first, second = talk(one, twice)
    assert set(first.config.subjects or ()) == {"orders.made", "fills.made"}
    assert first.config == second.config


@pytest.mark.medium
@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"subjects": ["orders.x"]}, "has the subjects orders.x, not orders."),
        ({"deny_delete": False}, "deny_delete=false, not true"),
        ({"storage": "memory"}, "storage=memory, not file"),
        ({"discard": "old"}, "discard=old, not new"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_stream_that_somebody_else_made_is_refused(
    one: Cluster, changed: dict[str, object], says: str
) -> None:
    stream = streams.out(f"other-{next(iter(changed)).replace('_', '')}")

    async def run(link: Link) -> None:
        await link.js.add_stream(stream.config(1, link.bounds).evolve(**changed))
        with pytest.raises(BusRefused) as caught:
            await streams.ensure(link, stream, 1)
        assert says in str(caught.value)

    talk(one, run)


@pytest.mark.medium
def test_more_replicas_than_servers_may_come_later(one: Cluster) -> None:
    async def run(link: Link) -> None:
        with pytest.raises(BusUnavailable, match="BUS_REPLICAS=3"):
            await streams.ensure(link, streams.out("three"), 3)

    talk(one, run)


@pytest.mark.medium
def test_a_lost_connection_says_so_at_once_and_is_not_taken_up_again() -> None:
    async def run(link: Link) -> str:
        await asyncio.to_thread(broker.brokers[0].kill)
        await asyncio.wait_for(link.lost.wait(), 10)
        with pytest.raises(BusUnavailable):
            await streams.ensure(link, streams.out("a"), 1)
        return link.why

    with cluster() as broker:
        assert talk(broker, run)
        with pytest.raises(BusUnavailable, match=rf"127\.0\.0\.1:{broker.brokers[0].port}"):
            talk(broker, run)


@pytest.mark.medium
def test_a_server_that_says_nothing_is_unavailable_within_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = Settings(bus_url=f"nats://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(BusUnavailable, match="no answer in time"):
            asyncio.run(Link.open(bus_access(settings), "test"))


OLD = b'INFO {"server_id":"x","version":"%s","max_payload":1048576,"headers":true%s}\r\n'


@pytest.mark.medium
@pytest.mark.parametrize(
    ("version", "more", "says"),
    [
        (b"2.10.29", b',"jetstream":true', "is NATS 2.10.29: it must be 2.11 or later"),
        (b"1.4.1", b"", "is NATS 1.4.1: it must be 2.11 or later"),
        (b"2.12.0", b"", "runs without JetStream"),
    ],
)
def test_a_server_that_is_too_old_is_refused(version: bytes, more: bytes, says: str) -> None:
    """A peer that speaks just enough: no such server is at hand."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OLD % (version, more))
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    async def run() -> str:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BusRefused) as caught:
            await Link.open(bus_access(Settings(bus_url=f"nats://127.0.0.1:{port}")), "test")
        server.close()
        return str(caught.value)

    assert says in asyncio.run(run())


@pytest.mark.medium
def test_a_real_server_without_jetstream_is_refused() -> None:
    with cluster(jetstream=False) as broker:
        assert "runs without JetStream" in refused(broker)


@pytest.mark.medium
def test_of_several_servers_one_without_jetstream_is_passed_over() -> None:
    """A broker whose disk is full turns its JetStream off: the others are asked."""
    with cluster(jetstream=False) as full, cluster() as whole:
        url = f"nats://127.0.0.1:{full.brokers[0].port}"
        access = bus_access(Settings(bus_url=f"{url},nats://127.0.0.1:{whole.brokers[0].port}"))

        async def servers() -> set[int]:
            found = set()
            for _ in range(8):
                async with await Link.open(access, "test") as link:
                    assert link.client.connected_url is not None
                    found.add(link.client.connected_url.port)
            return found

        assert asyncio.run(servers()) == {whole.brokers[0].port}
        twice = bus_access(Settings(bus_url=f"{url},nats://localhost:{full.brokers[0].port}"))
        with pytest.raises(BusUnavailable, match=r"(runs without JetStream.*){2}"):
            asyncio.run(Link.open(twice, "test"))


ACCOUNTS = """
accounts {
  TRADING {
    jetstream: enabled
    users: [
      { user: all, password: secret }
      { user: none, password: secret, permissions: { publish: "orders.a" } }
    ]
  }
  BARE { users: [ { user: bare, password: secret } ] }
}
"""


@pytest.mark.medium
def test_credentials_and_tls_are_needed_and_the_line_says_which(tmp_path) -> None:
    def user(name: str) -> dict[str, object]:
        file = tmp_path / name
        file.write_text(f"{name}:secret\n")
        return {"BUS_CREDS": file}

    with cluster(tls=True, accounts=ACCOUNTS) as broker:
        talk(broker, lambda link: streams.ensure(link, streams.out("a"), 1), **user("all"))
        assert "does not let a client without credentials in" in refused(broker)
        wrong = refused(broker, BUS_USER="all", BUS_PASSWORD="wrong")
        assert "does not let the user 'all' in" in wrong
        denied = refused(broker, **user("none"))
        assert "does not let this user ask $JS.API.STREAM.INFO.OUT_a" in denied
        assert "JetStream is not enabled for this user's account" in refused(broker, **user("bare"))
        plain = broker.url.replace("tls:", "nats:")
        assert "wants TLS" in refused(broker, BUS_URL=plain, BUS_TLS_CA="", **user("all"))
        assert "is not trusted" in refused(broker, BUS_TLS_CA="", **user("all"))


@pytest.mark.medium
def test_of_several_servers_one_with_another_name_is_passed_over() -> None:
    """As when a broker that starts has the address that another one had."""
    with cluster(tls=True) as broker:
        # The same server, under a name that its certificate does not have.
        other = broker.url.replace("127.0.0.1", "127.1")
        assert "has another server's certificate" in refused(broker, BUS_URL=other)
        for urls in ([other, broker.url], [broker.url, other]) * 3:
            talk(broker, lambda link: link.js.account_info(), BUS_URL=",".join(urls))
        both = ",".join((other, other.replace("127.1", "127.2")))
        with pytest.raises(BusUnavailable, match="another server's certificate"):
            talk(broker, lambda link: link.js.account_info(), BUS_URL=both)


@pytest.mark.medium
def test_a_password_is_not_sent_to_a_server_without_tls_if_tls_is_asked_for(one: Cluster) -> None:
    assert "has no TLS" in refused(one, BUS_URL=one.url.replace("nats:", "tls:"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("user", "must hold one line user:password"),
        ("a:b\nc:d\n", "must hold one line user:password"),
        ("-----BEGIN NATS USER JWT-----\neyJ0\n", "with a JWT is not supported"),
        (None, "No such file"),
    ],
)
def test_a_wrong_credentials_file_is_named(tmp_path, text: str | None, says: str) -> None:
    file = tmp_path / "creds"
    if text is not None:
        file.write_text(text)
    settings = Settings(bus_url="nats://127.0.0.1:1", bus_creds=str(file))
    with pytest.raises(SettingsError, match=says) as caught:
        bus_access(settings)
    assert str(file) in str(caught.value)
    assert "eyJ0" not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"BUS_URL": "http://a:4222"}, "BUS_URL: 'http://a:4222' is no address such as nats://"),
        ({"BUS_URL": "nats://a:x"}, "is no address"),
        ({"BUS_URL": "nats://a,tls://b"}, "servers with TLS and servers without"),
        ({"BUS_URL": "nats://me:secret@a"}, "set BUS_CREDS, or BUS_USER, instead"),
        ({"BUS_URL": "nats://a/b"}, "must end after the port"),
        ({"BUS_USER": "a"}, "set both or neither"),
        ({"BUS_USER": "a", "BUS_PASSWORD": "b", "BUS_CREDS": "c"}, "set one of them"),
        ({"BUS_URL": "nats://a", "BUS_TLS_CA": "ca.pem"}, "write tls:// in BUS_URL"),
        ({"SHARD": "A"}, "SHARD=A: must be up to 32 of a-z 0-9 -"),
        ({"BUS_REPLICAS": "2"}, "BUS_REPLICAS=2: "),
        ({"ON_BUS_LOSS": "stop"}, "must be one of continue, reduce, halt"),
    ],
)
def test_wrong_settings_of_the_bus_are_one_line(environ: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ(environ)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert "secret" not in str(caught.value)


def test_the_bus_is_needed_where_it_is_asked_for() -> None:
    with pytest.raises(SettingsError, match="BUS_URL: required here"):
        bus_access(Settings())


@pytest.mark.slow
def test_three_servers_keep_a_stream_when_its_leader_dies() -> None:
    async def publish(link: Link) -> int:
        await streams.ensure(link, streams.out("a"), 3)
        return (await link.js.publish("orders.a", b"{}")).seq

    def published() -> int:
        """The stream's last sequence number, after one more message."""
        return eventually(
            lambda: talk(broker, publish),
            "the servers take a message",
            60,
            ignore=(BusUnavailable, nats.errors.Error, TimeoutError),
        )

    with cluster(3) as broker:
        before = published()
        leader = broker.leader("OUT_a")
        leader.kill()
        assert published() > before
        leader.start()
        broker.wait_ready()


@pytest.mark.medium
def test_a_refused_message_is_answered_and_others_are_stored_in_their_order(one: Cluster) -> None:
    async def run(link: Link) -> None:
        await streams.ensure(link, streams.out("acks"), 1)
        acks = await Acks.open(link)
        sent = [
            await acks.send("orders.acks", b"{}", {names.EXPECTED_LAST_SEQ: str(expected)})
            for expected in (0, 7, 1, 2)
        ]
        done = await asyncio.gather(*sent, return_exceptions=True)
        assert [each.seq for each in done if isinstance(each, Ack)] == [1, 2, 3]
        assert isinstance(done[1], AckRefused)
        assert done[1].err_code == 10071
        (nobody,) = await asyncio.gather(
            await acks.send("orders.nowhere", b"{}", {}), return_exceptions=True
        )
        assert "no stream takes this subject" in str(nobody)

    talk(one, run)
