"""The order port with a token, and with TLS."""

import contextlib
import socket
import ssl

from tests.attacks.model import Attacker, Family, order, priced
from tests.attacks.stages import TOKEN
from tests.support.children import eventually

RIGHTS = Family("Order port: names and roles", "whole")
TOKENS = Family("Order port: token", "guarded")
TLS = Family("Order port: TLS", "encrypted")


@RIGHTS.attack("orders under the strategy's name, with ids of the future, 200 a second",
               "NOT_ALLOWED", "request_refused", small=True)  # fmt: skip
def orders_of_the_strategy(attacker: Attacker) -> None:
    with attacker.client() as client:
        for number in attacker.beats(200):
            name = ("strategy", "strategy-2", "strategy@1")[number % 3]
            attacker.ask(client, order(client=name, id=10**9 + number))


@RIGHTS.attack("halt, reduce and resume of the stack by nobody, 100 a second", "NOT_ALLOWED",
               "request_refused")  # fmt: skip
def modes_by_nobody(attacker: Attacker) -> None:
    ops = ({"op": "halt", "kill": True}, {"op": "reduce"}, {"op": "resume"})
    attacker.repeat(100, *({**op, "reason": "mine"} if op["op"] != "resume" else op for op in ops))


@RIGHTS.attack("halt of the strategy's account, cancel of its orders, 100 a second", "NOT_ALLOWED",
               "request_refused")  # fmt: skip
def account_of_the_strategy(attacker: Attacker) -> None:
    attacker.repeat(
        100,
        {"op": "halt", "client": "strategy", "reason": "mine"},
        {"op": "cancel", "client": "strategy", "id": 1},
    )


@RIGHTS.attack("queries of the strategy's orders and positions, 100 a second", "NOT_ALLOWED",
               "request_refused")  # fmt: skip
def queries_of_the_strategy(attacker: Attacker) -> None:
    attacker.repeat(
        100,
        {"op": "orders", "client": "strategy"},
        {"op": "positions", "client": "strategy"},
        {"op": "status", "client": "strategy", "id": 1},
    )


@RIGHTS.attack("a made-up token where none is needed, then a halt, 50 a second",
               "NOT_ALLOWED, acknowledged", "request_refused")  # fmt: skip
def tokens_where_none_is_needed(attacker: Attacker) -> None:
    for number in attacker.beats(50):
        with attacker.client() as client:
            assert (
                attacker.ask(client, {"op": "auth", "token": f"{number:064x}"})["role"] == "client"
            )
            attacker.ask(client, {"op": "halt", "kill": True, "reason": "mine"})


@RIGHTS.attack("cancel on disconnect asked for, then connections cut, 100 a second",
               "acknowledged, its own orders Canceled and those of others New",
               stage="plain")  # fmt: skip
def cancel_on_disconnect(attacker: Attacker) -> None:
    """It cancels the attacker's own resting orders, nobody else's."""
    resting = {"type": "LIMIT", "tif": "GTC", "price": 1}
    own, others = f"cutter-{attacker.address}", f"neighbor-{attacker.address}"
    with attacker.client() as looks:
        attacker.ask(looks, priced(id=1, client=others, **resting))
        for number in attacker.beats(100):
            client = attacker.client()
            attacker.ask(client, {"op": "hello", "cancel_on_disconnect": True})
            assert attacker.ask(client, priced(id=number, client=own, **resting))["ok"]
            client.reset()

        def status(client: str, order_id: int) -> str:
            answer = looks.ask({"op": "status", "client": client, "id": order_id})
            return str(answer["order"]["status"])

        eventually(lambda: status(own, number) == "Canceled", "the last is canceled")
        ended = {status(own, each) for each in range(number + 1)}
        attacker.see(f"its own orders {'/'.join(ended)} and those of others {status(others, 1)}")
        looks.ask({"op": "cancel", "client": others, "id": 1})


@TOKENS.attack("orders without the token, 50 a second", "AUTH_REQUIRED, closed", "client_refused",
               small=True)  # fmt: skip
def no_token(attacker: Attacker) -> None:
    attacker.refused(50, order())


@TOKENS.attack("wrong tokens, 100 a second", "BAD_TOKEN, closed", "client_refused")
def wrong_tokens(attacker: Attacker) -> None:
    for number in attacker.beats(100):
        guess = (TOKEN[:-1], TOKEN + "x", "", "x" * 2000, "\u00e9\u00e9")[number % 5]
        with attacker.client() as client:
            # Once its host has used up its places, a connection is closed at once.
            with contextlib.suppress(OSError, EOFError):
                attacker.ask(client, {"op": "auth", "token": guess})
            if client.closed():
                attacker.see("closed")
    assert TOKEN not in attacker.stage.log()


@TOKENS.attack("a halt of all trading without the token, 50 a second", "AUTH_REQUIRED, closed",
               "client_refused")  # fmt: skip
def halt_by_a_stranger(attacker: Attacker) -> None:
    attacker.refused(50, b'{"op":"halt","kill":true,"reason":"mine"}*')


@TOKENS.attack("100 silent connections of one host", "the latest 64 stay",
               "client_refused")  # fmt: skip
def silent_strangers(attacker: Attacker) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(attacker.client(5.0)) for _ in range(100)]
        assert all(client.closed() for client in clients[:36])
        for client in clients[36::8]:
            client.sock.settimeout(0.02)
            with contextlib.suppress(TimeoutError):
                assert not client.closed()
        attacker.see("the latest 64 stay")
        for _ in attacker.beats(10):
            pass


@TOKENS.attack("a long frame before the token, 50 a second", "FRAME_TOO_LONG, closed",
               "client_refused")  # fmt: skip
def long_frame_before_the_token(attacker: Attacker) -> None:
    attacker.refused(50, b'{"op":"auth","token":"' + b"x" * 5000 + b'"}*')


@TOKENS.attack("pings without the token, 300 a second", "acknowledged")
def pings(attacker: Attacker) -> None:
    attacker.repeat(300, {"op": "ping"})


# ---- TLS


@TLS.attack("plain orders on the port with TLS, 50 a second", "closed", "tls_failed", small=True)
def plain_on_tls(attacker: Attacker) -> None:
    for _ in attacker.beats(50):
        with attacker.client() as client, contextlib.suppress(ConnectionError):
            client.send(order())
            while client.sock.recv(1000):
                pass
        attacker.see("closed")


@TLS.attack("50 connections that do not begin the handshake", "nothing", "tls_failed")
def silent_on_tls(attacker: Attacker) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(attacker.client())
        for _ in attacker.beats(10):
            pass
        attacker.see("nothing")


@TLS.attack("handshakes, 20 a second", "accepted")
def handshakes(attacker: Attacker) -> None:
    context = ssl.create_default_context(cafile=attacker.stage.certificate)
    for _ in attacker.beats(20):
        with attacker.client() as client, _closing(context, client.sock) as sock:
            assert sock.version()
            attacker.see("accepted")


def _closing(context: ssl.SSLContext, sock: socket.socket) -> ssl.SSLSocket:
    return context.wrap_socket(sock, server_hostname="localhost")
