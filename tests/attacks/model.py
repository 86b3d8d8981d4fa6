"""What an attack is: what is done, what a user sees, what is logged, and who does it."""

import contextlib
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.attacks.stages import Stage
from tests.support.orders.process import Client

WINDOW_S: Final = 0.9
"""An attack goes on for this long: for some hundred orders of the trader."""


class Attacker:
    """One attacker: its own address, the stage it attacks, and what it has seen."""

    def __init__(self, stage: Stage, folder: Path, number: int) -> None:
        self.stage, self.folder = stage, folder
        self.address = f"127.66.{number // 250}.{number % 250 + 1}"
        """The log bounds lines by host, so attacks do not use up each other's."""
        self.seen: set[str] = set()
        self.own_log = ""
        """Of processes that the attack itself has started."""
        self.until_s = time.monotonic() + WINDOW_S

    def beats(self, per_s: float) -> Iterator[int]:
        """0, 1, 2, ... at this rate until the attack is over."""
        number, due = 0, time.monotonic()
        while due < self.until_s:
            yield number
            number, due = number + 1, due + 1 / per_s
            time.sleep(max(0.0, due - time.monotonic()))

    def client(self, timeout_s: float = 10.0) -> Client:
        """A new connection to the order port."""
        return Client(self.stage.order_port, timeout_s, source=self.address)

    def feed(self, port: int, hello: bytes = b"", timeout_s: float = 10.0) -> socket.socket:
        """A new connection to a port of the gateway."""
        sock = socket.create_connection(("127.0.0.1", port), timeout_s, (self.address, 0))
        sock.sendall(hello)
        return sock

    def see(self, *what: str) -> None:
        """Something that a user sees."""
        self.seen.update(what)

    def note(self, answer: dict[str, Any]) -> dict[str, Any]:
        """See an answer: its code, or that it is acknowledged."""
        self.see("acknowledged" if answer["ok"] else answer["code"])
        return answer

    def ask(self, client: Client, request: dict[str, Any] | bytes) -> dict[str, Any]:
        """Ask, and see the answer."""
        return self.note(client.ask(request))

    def repeat(self, per_s: float, *requests: dict[str, Any] | bytes) -> None:
        """Ask for each in turn, on one connection."""
        with self.client() as client:
            for number in self.beats(per_s):
                self.ask(client, requests[number % len(requests)])

    def refused(self, per_s: float, data: bytes) -> None:
        """Send ``data`` on a connection of its own each time; it is answered, and closed."""
        for _ in self.beats(per_s):
            with self.client() as client:
                with contextlib.suppress(OSError):  # the answer may be there before the end
                    client.send(data)
                self.note(client.read())
                if client.closed():
                    self.see("closed")

    def expect(self, text: str, pattern: str, phrase: str) -> None:
        """The pattern is in the text; then the phrase is what a user sees."""
        assert re.search(pattern, text), f"no {pattern!r} in {text[-3000:]}"
        self.see(phrase)


Act = Callable[[Attacker], None]


@dataclass(frozen=True)
class Attack:
    """One row of the table.

    ``sees``: everything that a user sees, as the attacker has noted it, separated by commas;
    ``logs``: every event of level warning or error, with a question mark if it is not always there;
    ``stage``: a key of STAGES, empty if the attack brings its own; ``measured``: whether orders are
    served meanwhile; ``small``: one of the few that are tried every day.
    """

    family: str
    name: str
    sees: str
    logs: str
    act: Act
    stage: str = ""
    measured: bool = True
    small: bool = False

    @property
    def shown(self) -> str:
        """What a user sees, as the page has it."""
        return re.sub(r"\b[A-Z]+(_[A-Z0-9]+)+\b", r"`\g<0>`", self.sees)

    @property
    def logged(self) -> str:
        """The events, as the page has them."""
        events = [
            f"at times `{event[:-1]}`" if event.endswith("?") else f"`{event}`"
            for event in self.logs.split()
        ]
        return ", ".join(events) or "nothing"


@dataclass
class Family:
    """Attacks of a kind, in the order of the page."""

    title: str
    stage: str = ""
    attacks: list[Attack] = field(default_factory=list)

    def attack(self, name: str, sees: str, logs: str = "", **more: Any) -> Callable[[Act], Act]:
        """Adds a function to the table."""

        def add(act: Act) -> Act:
            chosen = {"stage": self.stage, "measured": bool(more.get("stage", self.stage)), **more}
            self.attacks.append(Attack(self.title, name, sees, logs, act, **chosen))
            return act

        return add


def order(**members: Any) -> bytes:
    """An order at the market, as a frame; a member that is None is left out."""
    chosen = {"side": "BUY", "symbol": "AAPL", "qty": 1, "type": "MARKET", **members}
    kept = {key: value for key, value in chosen.items() if value is not None}
    return json.dumps(kept).replace("*", "\\u002a").encode() + b"*"


def priced(**members: Any) -> bytes:
    """An order with a price, for where there is no market."""
    return order(**{"type": None, "price": 5000, **members})


def raw(**members: str) -> bytes:
    """An order whose named members are written as they are, valid or not."""
    chosen = {"side": '"BUY"', "symbol": '"AAPL"', "qty": "1", "type": '"MARKET"', **members}
    return ("{" + ",".join(f'"{key}":{value}' for key, value in chosen.items()) + "}*").encode()
