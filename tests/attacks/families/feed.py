"""The gateway's ports, and the link from the gateway to the orderbook."""

import contextlib
import socket
from collections.abc import Iterator

from tests.attacks.families.frames import RESET
from tests.attacks.model import Attacker, Family
from tests.attacks.stages import TICKS_PER_S, Linked, Whole
from tests.chaos.bad_feed import Faults
from tests.support.feed_helpers import PROVEN

PORTS = Family("Feed ports", "whole")
LINK = Family("The link from the gateway to the orderbook", "linked")


def whole(attacker: Attacker) -> Whole:
    """The stage, as what it is."""
    assert isinstance(attacker.stage, Whole)
    return attacker.stage


def ports(attacker: Attacker) -> tuple[int, int]:
    """Prices and sentiment."""
    return whole(attacker).stack.price_port, whole(attacker).stack.sentiment_port


def read_some(sock: socket.socket) -> bytes:
    """What comes next; nothing if the connection is closed."""
    with contextlib.suppress(ConnectionError):
        return sock.recv(65536)
    return b""


@contextlib.contextmanager
def steady_stream(attacker: Attacker) -> Iterator[None]:
    """The strategy gets its ticks at the pace, none lost, meanwhile."""
    stack = whole(attacker).stack
    begin = whole(attacker).ticks()
    yield
    whole(attacker).wait_ticks(20)
    count = whole(attacker).ticks() - begin
    assert count < 20 * TICKS_PER_S, "the stream has jumped"
    for service, name in (("strategy", "ticks_lost"), ("orderbook", "gaps")):
        assert stack.counter(service, name) == 0
    attacker.see("the stream goes on")


@PORTS.attack(
    "`RESUME` far beyond the stream, 50 a second",
    "waits on the price port, closed on the other, the stream goes on",
    "client_refused",
)
def resume_beyond(attacker: Attacker, proof: bytes = b"") -> None:
    prices, sentiment = ports(attacker)
    with steady_stream(attacker):
        for number in attacker.beats(50):
            far = proof + b"RESUME|%d*" % (10**8 + number)
            with attacker.feed(prices, far) as sock:
                head = b""
                while b"SEQ|" not in head:
                    head += sock.recv(1000)
                attacker.see("waits on the price port")
            with attacker.feed(sentiment, far) as sock:
                if read_some(sock) == b"":
                    attacker.see("closed on the other")


@PORTS.attack("the same with a forged `PROOF`",
              "waits on the price port, closed on the other, the stream goes on", "client_refused",
              small=True)  # fmt: skip
def forged_proof(attacker: Attacker) -> None:
    resume_beyond(attacker, PROVEN)


HELLOS = (
    b"HELLO*",
    b"\0\xff\xfe*",
    b"GET / HTTP/1.1\r\n\r\n*",
    b"RESUME|x*",
    b"RESUME|0*RESUME|0*",
)


@PORTS.attack("hellos that are garbage, 100 a second", "closed, the stream goes on",
              "client_refused")  # fmt: skip
def garbage_hello(attacker: Attacker) -> None:
    _refused_hellos(attacker, *HELLOS)


@PORTS.attack("a hello of 100 kB without an end, 50 a second", "closed, the stream goes on",
              "client_refused")  # fmt: skip
def long_hello(attacker: Attacker) -> None:
    _refused_hellos(attacker, b"R" * 100_000, per_s=50)


def _refused_hellos(attacker: Attacker, *hellos: bytes, per_s: int = 100) -> None:
    begin = len(attacker.stage.log())
    with steady_stream(attacker):
        for number in attacker.beats(per_s):
            with contextlib.suppress(ConnectionError):
                sock = attacker.feed(ports(attacker)[number % 2], hellos[number % len(hellos)])
                with sock:
                    while read_some(sock):
                        pass
            attacker.see("closed")
    lines = attacker.stage.log()[begin:].count("client_refused")
    assert lines <= 10, f"{lines} lines"


@PORTS.attack("a hello byte by byte, 20 connections", "the stream goes on", "")
def hello_byte_by_byte(attacker: Attacker) -> None:
    with steady_stream(attacker), contextlib.ExitStack() as stack:
        price = ports(attacker)[0]
        socks = [stack.enter_context(attacker.feed(price)) for _ in range(20)]
        for number in attacker.beats(400):
            at = number // 20 % 8
            with contextlib.suppress(ConnectionError):
                socks[number % 20].sendall(b"RESUME|0*"[at : at + 1])


@PORTS.attack("90 clients against `GATEWAY_CLIENTS_MAX=30`",
              "closed after a second, the stream goes on", "client_refused")  # fmt: skip
def crowd(attacker: Attacker) -> None:
    with steady_stream(attacker), contextlib.ExitStack() as stack:
        price = ports(attacker)[0]
        socks = [stack.enter_context(attacker.feed(price)) for _ in range(90)]
        for _ in attacker.beats(10):
            pass
        last = socks[-1]
        if not last.recv(1):
            attacker.see("closed after a second")


@PORTS.attack("connect and close on both ports, 200 a second", "the stream goes on")
def churn(attacker: Attacker) -> None:
    with steady_stream(attacker):
        for number in attacker.beats(200):
            attacker.feed(ports(attacker)[number % 2]).close()


@PORTS.attack("RST after the hello, 200 a second", "the stream goes on")
def reset(attacker: Attacker) -> None:
    with steady_stream(attacker):
        for number in attacker.beats(200):
            with attacker.feed(ports(attacker)[number % 2], b"RESUME|0*") as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


@PORTS.attack("20 clients that close their half after the hello", "the stream goes on")
def half_open(attacker: Attacker) -> None:
    with steady_stream(attacker), contextlib.ExitStack() as stack:
        for number in range(20):
            hello = b"" if number % 2 else b"RUN*"
            sock = stack.enter_context(attacker.feed(ports(attacker)[0], hello))
            sock.shutdown(socket.SHUT_WR)
        for _ in attacker.beats(10):
            pass


@PORTS.attack("`PING`, 200 a second", "PONG, the stream goes on")
def pings(attacker: Attacker) -> None:
    with steady_stream(attacker):
        for number in attacker.beats(200):
            with attacker.feed(ports(attacker)[number % 2], b"PING*") as sock:
                data = b""
                while more := sock.recv(1000):
                    data += more
                if data.endswith(b"PONG*"):
                    attacker.see("PONG")


@PORTS.attack(
    "a client that does not read, at 10,000 ticks a second",
    "dropped above `CLIENT_BUFFER_LIMIT_BYTES`",
    "client_dropped",
    stage="fast",
)
def slow_reader(attacker: Attacker) -> None:
    attacker.until_s += 8
    with attacker.feed(ports(attacker)[0]):
        for _ in attacker.beats(10):
            lines = attacker.stage.log().splitlines()
            if any("client_dropped" in each and attacker.address in each for each in lines):
                attacker.see("dropped above `CLIENT_BUFFER_LIMIT_BYTES`")
                return


# ---- The link


def misbehave(attacker: Attacker, faults: Faults) -> None:
    """For the time of the attack; the strategy loses no tick."""
    linked = attacker.stage
    assert isinstance(linked, Linked)
    linked.misbehave(faults)
    for _ in attacker.beats(10):
        pass
    linked.misbehave(Faults())
    linked.wait_ticks(200)
    assert linked.stack.counter("strategy", "ticks_lost") == 0
    assert linked.stack.counter("orderbook", "gaps") == 0
    attacker.see("no tick is lost")


@LINK.attack(
    "garbage between the frames, two in a thousand ticks",
    "no tick is lost",
    "feed_lost tick_refused?",
    small=True,
)
def garbage(attacker: Attacker) -> None:
    misbehave(attacker, Faults(garbage_per_mille=2))


@LINK.attack("a reset every 20 kB", "no tick is lost", "feed_lost")
def resets(attacker: Attacker) -> None:
    misbehave(attacker, Faults(reset_every_bytes=20_000))


@LINK.attack("half frames, then the end of the connection", "no tick is lost", "feed_lost")
def half_frames(attacker: Attacker) -> None:
    misbehave(attacker, Faults(drop_every_bytes=20_000))


@LINK.attack("pieces of 50 bytes", "no tick is lost", "feed_lost")
def pieces(attacker: Attacker) -> None:
    misbehave(attacker, Faults(piece_bytes=50))


@LINK.attack("a pause of 50 ms before every third piece", "no tick is lost", "feed_lost")
def delays(attacker: Attacker) -> None:
    misbehave(attacker, Faults(delay_per_mille=300, delay_s=0.05))


@LINK.attack(
    "nothing arrives for 2 s",
    "no tick is lost",
    "book_stale feed_lost feed_stale book_lost?",
    measured=False,
)
def cut(attacker: Attacker) -> None:
    linked = attacker.stage
    assert isinstance(linked, Linked)
    linked.cut()
    attacker.until_s += 1
    for _ in attacker.beats(10):
        pass
    linked.misbehave(Faults())
    linked.wait_ticks(200)
    assert linked.stack.counter("strategy", "ticks_lost") == 0
    assert linked.stack.counter("orderbook", "gaps") == 0
    attacker.see("no tick is lost")
