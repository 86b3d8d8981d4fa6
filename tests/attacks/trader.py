"""The client that an attack must not harm: a process that sends an order every few milliseconds.

It sends when an order is due, whether or not the last one is answered (an open loop), so an order
that waits makes those behind it late, too.  The latency is from the due time to the
acknowledgement.  What is refused for a passing reason, or unanswered when the connection ends, is
sent again under its id, as any careful client does.
"""

import gc
import json
import select
import ssl
import sys
import time
from typing import Any, Final

from tests.support.children import Child
from tests.support.orders.process import Client

NAME: Final = "trader"
EVERY_S: Final = 0.002
AGAIN_S: Final = 0.02
LAST_ANSWER_S: Final = 15.0


class _Trading:
    """One connection at a time, orders in sequence."""

    def __init__(self, port: int, token: str, certificate: str, order: dict[str, Any]) -> None:
        self._port, self._token, self._certificate = port, token, certificate
        text = json.dumps({**order, "client": NAME, "id": "%d"}).replace('"%d"', "%d")
        self._frame = text.encode() + b"*"
        self._client: Client | None = None
        self._rest = b""
        self._next_id = 0
        self._due: dict[int, float] = {}
        """Orders without an answer that counts, and when they were due."""
        self._repeated: set[int] = set()
        self._refused: set[int] = set()
        self._again_s = 0.0
        self.reconnects = 0
        self._connect()
        self.begin()

    def begin(self) -> None:
        """Forget what was counted."""
        self.samples: list[tuple[float, float]] = []
        self.refused: dict[str, int] = {}
        self.problems: list[str] = []
        self.reconnects = 0

    def run(self) -> None:
        """Trade until a line arrives on standard input, and until each order is acknowledged."""
        due = time.monotonic()
        stopped_s = 0.0
        while not stopped_s or (self._due and time.monotonic() < stopped_s + LAST_ANSWER_S):
            now = time.monotonic()
            if self._client is None:
                self._connect()
            while not stopped_s and due <= now:
                self._due[self._next_id] = due
                self._send(self._next_id)
                self._next_id += 1
                due += EVERY_S
            if self._refused and now >= self._again_s:
                self._repeat(self._refused)
            waits = [sys.stdin] if self._client is None else [sys.stdin, self._client.sock]
            timeout_s = AGAIN_S if stopped_s or self._client is None else max(due - now, 0)
            for ready in select.select(waits[bool(stopped_s) :], [], [], timeout_s)[0]:
                if ready is sys.stdin:
                    sys.stdin.readline()
                    stopped_s = time.monotonic()
                else:
                    self._receive()
        self.problems += [f"order {each} has no answer" for each in list(self._due)[:3]]

    def _connect(self) -> None:
        try:
            client = Client(self._port)
            if self._certificate:
                context = ssl.create_default_context(cafile=self._certificate)
                client.sock = context.wrap_socket(client.sock, server_hostname="localhost")
            if self._token:
                assert client.ask({"op": "auth", "token": self._token})["ok"]
        except (OSError, EOFError):
            return
        self._client, self._rest = client, b""
        self.reconnects += 1
        self._repeat(set(self._due))

    def _repeat(self, ids: set[int]) -> None:
        """In sequence, because an order that is held back holds back those after it."""
        self._refused = self._refused - ids
        self._again_s = time.monotonic() + AGAIN_S
        for order_id in sorted(ids):
            self._repeated.add(order_id)
            self._send(order_id)

    def _send(self, order_id: int) -> None:
        if self._client is not None:
            try:
                self._client.send(self._frame % order_id)
            except OSError:
                self._lost()

    def _lost(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None
        self._refused.clear()

    def _receive(self) -> None:
        assert self._client is not None
        try:
            data = self._client.sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        now = time.monotonic()
        *frames, self._rest = (self._rest + data).split(b"*")
        for frame in frames:
            self._take(json.loads(frame), now)

    def _take(self, answer: dict[str, Any], now: float) -> None:
        if not answer["ok"]:
            code, order_id = answer["code"], answer.get("id")
            self.refused[code] = self.refused.get(code, 0) + 1
            if answer.get("retryable") and order_id in self._due:
                self._refused.add(order_id)
                self._again_s = max(self._again_s, now + AGAIN_S / 2)
            else:
                self.problems.append(f"refused for good: {answer}")
            return
        order = answer["order"]
        due = self._due.pop(order["id"], None)
        self._refused.discard(order["id"])
        if due is None:
            if order["id"] not in self._repeated:
                self.problems.append(f"answered twice: {answer}")
            return
        self.samples.append((due, now - due))
        if answer.get("duplicate") and order["id"] not in self._repeated:
            self.problems.append(f"a repeated answer to an order sent once: {answer}")
        if (order["client"], order["status"], order["qty"]) != (NAME, "Filled", 1):
            self.problems.append(f"another answer: {answer}")


def main() -> None:
    """Trade from one line on standard input to the next, and print what was seen."""
    port, token, certificate, order = json.loads(sys.argv[1])
    trading = _Trading(port, token, certificate, order)
    while sys.stdin.readline():
        gc.collect()
        gc.disable()
        trading.run()
        gc.enable()
        print(
            json.dumps(
                {
                    "samples": trading.samples,
                    "refused": trading.refused,
                    "problems": trading.problems[:5],
                    "reconnects": trading.reconnects,
                }
            ),
            flush=True,
        )
        trading.begin()


class Trader:
    """The process of a trader, seen from the test."""

    def __init__(self, port: int, order: dict[str, Any], token: str, certificate: str) -> None:
        arguments = json.dumps([port, token, certificate, order])
        self._child = Child("from tests.attacks.trader import main; main()", arguments)
        self.acknowledged = 0

    def begin(self) -> None:
        """Start to trade."""
        self._child.tell("begin")

    def end(self) -> dict[str, Any]:
        """Stop, wait for the last answers; returns samples (due time, latency) and problems."""
        found: dict[str, Any] = json.loads(self._ended())
        self.acknowledged += len(found["samples"])
        return found

    def _ended(self) -> str:
        self._child.tell("end")
        return self._child.line(LAST_ANSWER_S + 10)

    def close(self) -> None:
        """End the process."""
        self._child.close()
