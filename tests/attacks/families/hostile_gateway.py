"""A gateway that means harm: what it sends to an orderbook."""

import re
import secrets

from tests.attacks.model import Attacker, Family
from tests.support.children import SHM
from tests.support.fake_servers import Connection, FakeServer
from tests.support.orderbook import TICKS, Handler, Orderbook, cut, greeting, insert, serve, tick

HOSTILE = Family("A hostile gateway, toward the orderbook", "plain")


def run(attacker: Attacker, *handlers: Handler) -> list[int]:
    """An orderbook reads the stream to its end, again and again; the sequence numbers it wrote."""
    seen: list[int] = []
    name = f"attack_{secrets.token_hex(4)}"
    with FakeServer(*handlers) as server:
        book = Orderbook(name, server.port)
        try:
            ring = book.ring()
            got = book.take(ring, lambda ring: ring.state.end_seq is not None)
            assert [price for _, price in got] == [seq + 1.5 for seq, _ in got]
            seen = [seq for seq, _ in got]
            code, log = book.stop()
            _keep(attacker, log)
            assert code == 0
        finally:
            _end(book, name)
    return seen


def _keep(attacker: Attacker, log: str) -> None:
    """Its log is the log of this attack."""
    attacker.own_log += log


def _end(book: Orderbook, name: str) -> None:
    if book.process.poll() is None:
        book.process.kill()
    book.process.communicate()
    for path in SHM.glob(f"{name}*"):
        path.unlink()


WRONG = {
    "timestamps that are none": (b"2025-10-01 25:00:00*AAPL*1.0*", b"Xmas*AAPL*1.0*"),
    "symbols that are not in its list": (
        b"2025-10-01 09:30:00*NONE*1.0*",
        b"2025-10-01 09:30:00*123456789012345678901234567890123*1.0*",
    ),
    "prices of NaN, infinity, -1 and 1e999": (
        b"2025-10-01 09:30:00*AAPL*NaN*",
        b"2025-10-01 09:30:00*AAPL*inf*",
        b"2025-10-01 09:30:00*AAPL*-1*",
        b"2025-10-01 09:30:00*AAPL*1e999*",
    ),
}
for what, texts in WRONG.items():

    @HOSTILE.attack(what, "such a tick is left out, the others are there", "feed_lost tick_refused",
                    small="NaN" in what)  # fmt: skip
    def malformed(attacker: Attacker, texts: tuple[bytes, ...] = texts) -> None:
        at = {100 + 300 * n: text for n, text in enumerate(texts)}

        def change(data: bytes) -> bytes:
            for seq, text in at.items():
                data = data.replace(tick(seq), text)
            return data

        if run(attacker, serve(change)) == [seq for seq in range(TICKS) if seq not in at]:
            attacker.see("such a tick is left out", "the others are there")


@HOSTILE.attack("a frame of 70 kB, control bytes, and marks out of place", "every tick is there",
                "feed_lost tick_refused")  # fmt: skip
def garbage(attacker: Attacker) -> None:
    damages = [b"***", b"\0\xff\xfe*" * 3, b"END|x*", b"SEQ|5*", b"HI*", b"q" * 70_000]
    handlers = [insert(damage, 300 * n + 200) for n, damage in enumerate(damages)]
    if run(attacker, *handlers, serve()) == list(range(TICKS)):
        attacker.see("every tick is there")


@HOSTILE.attack("another tick than the one asked for", "every tick is there", "feed_lost")
def out_of_sequence(attacker: Attacker) -> None:
    def repeats(connection: Connection) -> None:
        connection.resume()
        connection.send(greeting(0) + b"".join(map(tick, range(50))))
        connection.finish()

    if run(attacker, cut(20_000, False), repeats, serve()) == list(range(TICKS)):
        attacker.see("every tick is there")


def _ends(attacker: Attacker, *handlers: Handler) -> str:
    """An orderbook ends by itself; its log."""
    name = f"attack_{secrets.token_hex(4)}"
    with FakeServer(*handlers) as server:
        book = Orderbook(name, server.port)
        try:
            log, _ = book.process.communicate(timeout=20)
            attacker.see(f"exit code {book.process.returncode}")
        finally:
            _end(book, name)
    _keep(attacker, log)
    return log


@HOSTILE.attack("an end with another number of ticks",
                "exit code 1, the run is written again from tick 0", "fatal stopped")  # fmt: skip
def wrong_end(attacker: Attacker) -> None:
    def wrong(connection: Connection) -> None:
        first = connection.resume()
        connection.send(greeting(first) + b"".join(map(tick, range(first, 100))) + b"END|3000*")
        connection.finish()

    log = _ends(attacker, wrong)
    attacker.expect(log, r"damaged feed: .*starting over from tick 0",
                    "the run is written again from tick 0")  # fmt: skip


@HOSTILE.attack("the feed of another run", "exit code 1, the log names both runs",
                "fatal feed_lost stopped")  # fmt: skip
def another_run(attacker: Attacker) -> None:
    def other(connection: Connection) -> None:
        connection.send(greeting(connection.resume(), "r2"))
        connection.finish()

    log = _ends(attacker, cut(1000, False), other)
    assert re.search(r"another run \(r2", log)
    attacker.see("the log names both runs")
