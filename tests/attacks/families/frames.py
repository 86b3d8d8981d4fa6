"""Frames and connections on the order port."""

import contextlib
import socket
import struct

from app.model.wire.frames import MAX_FRAME_BYTES
from tests.attacks.model import Attacker, Family, order

FRAMES = Family("Order port: frames and connections", "whole")
RESET = struct.pack("ii", 1, 0)


@FRAMES.attack(
    "a frame of 70 kB, 20 a second", "FRAME_TOO_LONG, closed", "client_refused", small=True
)
def oversize(attacker: Attacker) -> None:
    attacker.refused(20, b"x" * 70_000 + b"*")


@FRAMES.attack("a frame without end, 20 connections a second", "FRAME_TOO_LONG, closed",
               "client_refused")  # fmt: skip
def endless(attacker: Attacker) -> None:
    attacker.refused(20, b'{"side":"' + b"B" * (MAX_FRAME_BYTES + 1))


@FRAMES.attack("20 connections, each sends a byte of an order every 100 ms", "acknowledged")
def byte_by_byte(attacker: Attacker) -> None:
    text = order()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(attacker.client()) for _ in range(20)]
        sent = [0] * 20
        for number in attacker.beats(200):
            which = number % 20
            if sent[which] < len(text) - 1:
                clients[which].send(text[sent[which] : sent[which] + 1])
                sent[which] += 1
        for client, count in zip(clients, sent, strict=True):
            client.send(text[count:])
            attacker.note(client.read())


@FRAMES.attack("30 unfinished frames of 60 kB each, held open", "client_dropped",
               "client_dropped", stage="bounded")  # fmt: skip
def unfinished(attacker: Attacker) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(attacker.client()) for _ in range(30)]
        for number in attacker.beats(200):
            with contextlib.suppress(OSError):
                clients[number % 30].send(b"z" * 10_000)
        assert sum(_is_closed(client.sock) for client in clients) > 8
        attacker.see("client_dropped")


def _is_closed(sock: socket.socket) -> bool:
    sock.settimeout(0.01)
    with contextlib.suppress(TimeoutError):
        try:
            return sock.recv(100) == b""
        except ConnectionError:
            return True
    return False


@FRAMES.attack(
    "silent connections up to `ORDER_CONNECTIONS_MAX`",
    "a new client waits until idle ones are closed",
    "accepting_paused client_dropped",
    stage="bounded",
)
def silent(attacker: Attacker) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(attacker.client())
        with attacker.stage.friend() as friend:
            assert friend.ask({"op": "ping"})["ok"]
            attacker.see("a new client waits until idle ones are closed")
        for _ in attacker.beats(10):
            pass


@FRAMES.attack("connect and close, 300 a second", "accepted")
def churn(attacker: Attacker) -> None:
    for _ in attacker.beats(300):
        attacker.client().close()
        attacker.see("accepted")


@FRAMES.attack("an order, then half a close, 100 a second", "acknowledged, closed")
def half_close(attacker: Attacker) -> None:
    for _ in attacker.beats(100):
        with attacker.client() as client:
            client.send(order())
            client.sock.shutdown(socket.SHUT_WR)
            attacker.note(client.read())
            if client.closed():
                attacker.see("closed")


@FRAMES.attack("RST in the middle of a frame, 200 a second", "nothing", small=True)
def reset(attacker: Attacker) -> None:
    for _ in attacker.beats(200):
        with attacker.client() as client:
            client.send(order()[:-10])
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    attacker.see("nothing")


@FRAMES.attack("pages of orders, 240 a second, and no answer is read", "dropped", "client_dropped")
def reads_nothing(attacker: Attacker) -> None:
    with attacker.client() as client:
        attacker.until_s += 5
        for _ in attacker.beats(240):
            try:
                client.send(b'{"op":"orders","client":"trader","open":false,"limit":200}*')
            except OSError:
                attacker.see("dropped")
                return


@FRAMES.attack("noise instead of JSON, 200 frames a second", "BAD_JSON", "request_refused")
def noise(attacker: Attacker) -> None:
    attacker.repeat(200, b"nonsense*", b"{*", b"\x01\x02*", b'{"side":*', b"*")


@FRAMES.attack("NUL bytes, 200 frames a second", "BAD_JSON", "request_refused")
def nul_bytes(attacker: Attacker) -> None:
    attacker.repeat(200, b"\0*", b"\0" * 1000 + b"*", order().replace(b"BUY", b"B\0Y"))


@FRAMES.attack("text that is not UTF-8, 50 a second", "BAD_UTF8, closed", "client_refused")
def not_utf8(attacker: Attacker) -> None:
    attacker.refused(50, order().replace(b"BUY", b"\xff\xfeY"))


@FRAMES.attack("JSON 20,000 levels deep, 50 a second", "BAD_FIELD, BAD_JSON", "request_refused")
def deep(attacker: Attacker) -> None:
    deep = b"[" * 20_000
    attacker.repeat(50, deep + b"*", b'{"ts":' + deep + b"*", b'{"op":"ping","x":' + deep + b"*")


HELLOS = {
    "an HTTP request": b"POST /orders HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
    "a TLS hello on the plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a FIX logon": b"8=FIX.4.4\x019=65\x0135=A\x01",
    "an SSH client": b"SSH-2.0-OpenSSH_9.2\r\n",
}
for name, hello in HELLOS.items():

    @FRAMES.attack(f"{name}, 50 a second", "OTHER_PROTOCOL, closed", "client_refused")
    def other_protocol(attacker: Attacker, hello: bytes = hello) -> None:
        attacker.refused(50, hello)


@FRAMES.attack("4,000 frames in one write, twice a second", "acknowledged")
def many_frames(attacker: Attacker) -> None:
    with attacker.client() as client:
        for _ in attacker.beats(2):
            client.send(b'{"op":"ping"}*' * 4000)
            for _ in range(4000):
                attacker.note(client.read())


@FRAMES.attack("long frames of 60 kB, 40 a second", "UNKNOWN_FIELD", "request_refused")
def long_frames(attacker: Attacker) -> None:
    attacker.repeat(40, b'{"op":"ping","x":"' + b"y" * 60_000 + b'"}*')
