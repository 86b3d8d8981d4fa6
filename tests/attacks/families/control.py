"""The gateway's control port, from a client that may not command the market."""

import contextlib
import json
import socket

from tests.attacks.families.feed import read_some, steady_stream, whole
from tests.attacks.families.frames import RESET
from tests.attacks.model import Attacker, Family
from tests.support.feed_helpers import PROVEN

CONTROL = Family("Control port", "whole")

COMMANDS = (
    {"op": "pause"},
    {"op": "seek", "tick": 0},
    {"op": "speed", "pace": "1/s"},
    {"op": "step", "ticks": 1000},
)
GARBAGE = (
    b"PAUSE*",
    b"{*",
    b"[[[[[[*",
    b'{"op":"pause","op":"step"}*',
    b'{"op":"speed","pace":1e400}*',
    b'{"op":"step","ticks":-1}*',
    b'{"op":"explode"}*',
    b"\0\xff\xfe*",
)


def frame(request: dict[str, object]) -> bytes:
    """A request."""
    return json.dumps(request).encode() + b"*"


def knock(attacker: Attacker, data: bytes = b"") -> socket.socket:
    """A new connection to the port."""
    return attacker.feed(whole(attacker).stack.control_port, data)


def read_answer(sock: socket.socket) -> dict[str, object] | None:
    """The next answer; None if the connection is closed."""
    data = b""
    while not data.endswith(b"*"):
        more = read_some(sock)
        if not more:
            return None
        data += more
    found = json.loads(data[:-1].rpartition(b"*")[2])
    assert isinstance(found, dict)
    return found


def note(attacker: Attacker, sock: socket.socket) -> None:
    """See the code of an answer, or that there is none any more."""
    answer = read_answer(sock)
    attacker.see("closed" if answer is None else str(answer.get("code", "answered")))


@CONTROL.attack("commands without a token, 200 a second", "NOT_ALLOWED, the stream goes on",
                "command_refused", small=True)  # fmt: skip
def no_token(attacker: Attacker, hello: bytes = b"") -> None:
    with steady_stream(attacker), knock(attacker, hello) as sock:
        for number in attacker.beats(200):
            sock.sendall(frame(COMMANDS[number % len(COMMANDS)]))
            note(attacker, sock)


@CONTROL.attack("the same commands with a forged `PROOF`", "NOT_ALLOWED, the stream goes on",
                "command_refused")  # fmt: skip
def forged_proof(attacker: Attacker) -> None:
    no_token(attacker, PROVEN)


@CONTROL.attack("made-up tokens, 100 a second", "NOT_ALLOWED, the stream goes on",
                "command_refused")  # fmt: skip
def guesses(attacker: Attacker) -> None:
    with steady_stream(attacker), knock(attacker) as sock:
        for number in attacker.beats(100):
            sock.sendall(frame({"op": "auth", "token": f"guess-{number:020}"}))
            note(attacker, sock)


@CONTROL.attack("requests that are garbage, 200 a second", "BAD_REQUEST, the stream goes on",
                "command_refused")  # fmt: skip
def garbage(attacker: Attacker) -> None:
    with steady_stream(attacker), knock(attacker, frame({"op": "status"})) as sock:
        read_answer(sock)
        for number in attacker.beats(200):
            sock.sendall(GARBAGE[number % len(GARBAGE)])
            note(attacker, sock)


@CONTROL.attack("half a request, then RST or a half close, 100 a second", "the stream goes on")
def half_requests(attacker: Attacker) -> None:
    with steady_stream(attacker):
        for number in attacker.beats(100):
            with knock(attacker, b'{"op":"pau') as sock:
                if number % 2:
                    sock.shutdown(socket.SHUT_WR)
                else:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


@CONTROL.attack("a command byte by byte, 20 connections", "NOT_ALLOWED, the stream goes on",
                "command_refused")  # fmt: skip
def byte_by_byte(attacker: Attacker) -> None:
    data = frame({"op": "pause"})
    with steady_stream(attacker), contextlib.ExitStack() as stack:
        socks = [stack.enter_context(knock(attacker)) for _ in range(20)]
        sent = 0
        for number in attacker.beats(600):
            at = number // 20
            if at == len(data):
                break
            socks[number % 20].sendall(data[at : at + 1])
            sent += 1
        assert sent == 20 * len(data)
        for sock in socks:
            note(attacker, sock)


@CONTROL.attack("a request of 100 kB without an end, 50 a second", "closed, the stream goes on",
                "client_refused")  # fmt: skip
def without_end(attacker: Attacker) -> None:
    with steady_stream(attacker):
        for _ in attacker.beats(50):
            with contextlib.suppress(ConnectionError), knock(attacker, b"{" * 100_000) as sock:
                while read_some(sock):
                    pass
            attacker.see("closed")


@CONTROL.attack("an HTTP request, 100 a second", "BAD_REQUEST, the stream goes on",
                "command_refused")  # fmt: skip
def http(attacker: Attacker) -> None:
    request = b"POST / HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"
    with steady_stream(attacker):
        for _ in attacker.beats(100):
            with knock(attacker, request) as sock:
                note(attacker, sock)


@CONTROL.attack("`status`, 500 a second", "answered, the stream goes on")
def questions(attacker: Attacker) -> None:
    with steady_stream(attacker), knock(attacker) as sock:
        for _ in attacker.beats(500):
            sock.sendall(frame({"op": "status"}))
            note(attacker, sock)


@CONTROL.attack("`status`, 20,000 a second, and no answer is read", "closed, the stream goes on",
                "client_refused")  # fmt: skip
def answers_not_read(attacker: Attacker) -> None:
    many = frame({"op": "status"}) * 200
    with steady_stream(attacker), knock(attacker) as sock:
        try:
            for _ in attacker.beats(100):
                sock.sendall(many)
            sock.settimeout(2)
            while read_some(sock):
                pass
            attacker.see("closed")
        except (ConnectionError, TimeoutError) as error:
            attacker.see("closed" if isinstance(error, ConnectionError) else "open")


@CONTROL.attack("90 connections that may command nothing, against `GATEWAY_CLIENTS_MAX=30`",
                "closed after a second, the stream goes on", "client_refused")  # fmt: skip
def crowd(attacker: Attacker) -> None:
    with steady_stream(attacker), contextlib.ExitStack() as stack:
        socks = [stack.enter_context(knock(attacker)) for _ in range(90)]
        for _ in attacker.beats(10):
            pass
        if read_some(socks[-1]) == b"":
            attacker.see("closed after a second")
