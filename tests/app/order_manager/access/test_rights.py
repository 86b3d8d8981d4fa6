"""Who may do what: client names, roles, and what a client sees."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.config.settings import Settings
from app.order_manager.server import OrderManagerServer
from app.runtime.net.access import connect_orders
from app.runtime.net.order_client import OrderClient, ask_once
from app.runtime.net.stack_token import keep_stack_token, stack_token_path
from tests.support.orders.frames import ORDER, frame
from tests.support.orders.process import Client
from tests.support.orders.server import RunningServer, running

ALICE, DESK, BOSS, STACK = ("alice-" + "a" * 20, "desk-" + "d" * 20, "boss-" + "b" * 20, "s" * 32)
LINES = (
    f"{ALICE} client=alice\n{DESK} client=desk-*,bob\n{BOSS} role=operator\n{STACK} role=stack\n"
)
STRATEGY = "strategy@1a188a0c"
LIMIT = {**ORDER, "type": "LIMIT", "tif": "GTC", "price": 1.0}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """An order manager with a token for each role."""
    (tmp_path / "tokens").write_text(LINES)
    with running(tmp_path, order_token_file=str(tmp_path / "tokens")) as started:
        yield started


@pytest.fixture
def open_server(tmp_path: Path) -> Iterator[RunningServer]:
    """An order manager that needs no token, as on loopback by default."""
    with running(tmp_path) as started:
        yield started


def enter(server: RunningServer, token: str) -> Client:
    """A connection with a token."""
    client = server.stranger()
    assert client.ask({"op": "auth", "token": token})["ok"]
    return client


# ---- Names


@pytest.mark.parametrize(
    ("token", "names", "others"),
    [
        (ALICE, ["alice"], ["bob", "default", "alice2", "Alice", STRATEGY]),
        (DESK, ["desk-", "desk-9", "bob"], ["desk", "alice", "default", STRATEGY]),
        (BOSS, ["alice", "default", "anybody"], ["strategy", "strategy-2", STRATEGY]),
        (STACK, ["alice", "default", STRATEGY, "strategy-2@1"], []),
    ],
)
def test_a_token_trades_under_its_own_names(
    server: RunningServer, token: str, names: list[str], others: list[str]
) -> None:
    with enter(server, token) as client:
        for name in names * 2:
            assert client.ask({**ORDER, "client": name})["ok"], name
        for number, name in enumerate(others * 2):
            refused = client.ask({**ORDER, "client": name, "id": number})
            assert (refused["code"], refused["retryable"]) == ("NOT_ALLOWED", False)
            assert (refused["client"], refused["id"]) == (name, number)
            assert name.partition("@")[0] in refused["msg"]
        refused = client.ask({"op": "orders", "open": False})
    with enter(server, BOSS) as boss:
        seen = {order["client"] for order in boss.ask({"op": "orders", "open": False})["orders"]}
    assert seen == set(names), "nothing of what was refused is stored"


def test_in_one_packet_each_order_is_judged_by_its_own_name(server: RunningServer) -> None:
    names = ["alice", "bob", "alice", STRATEGY, "alice"]
    with server.stranger() as client:
        client.send(
            b'{"op":"auth","token":"%s"}*' % ALICE.encode()
            + b"".join(frame(id=n, client=name) for n, name in enumerate(names))
        )
        assert client.read()["role"] == "client"
        assert [client.read()["ok"] for _ in names] == [name == "alice" for name in names]


def test_without_a_token_all_names_but_the_strategies_are_free(open_server: RunningServer) -> None:
    with open_server.stranger() as client:
        for name in ("default", "me", "anybody"):
            assert client.ask({**ORDER, "client": name})["ok"]
        for name in ("strategy", STRATEGY, "strategy-2@00ff"):
            refused = client.ask({**ORDER, "client": name, "id": 10**9})
            assert refused["code"] == "NOT_ALLOWED"
            assert "only role=stack may use" in refused["msg"]
        assert client.ask({"op": "status", "id": 10**9, "client": STRATEGY})["code"] == (
            "NOT_ALLOWED"
        )
    with open_server.client() as stack:
        orders = stack.ask({"op": "orders", "open": False})["orders"]
        assert not [order for order in orders if order["client"].startswith("strategy")]
        assert stack.ask({**ORDER, "client": STRATEGY, "id": 1})["ok"]


def test_the_stacks_own_processes_need_no_setting(
    open_server: RunningServer, tmp_path: Path
) -> None:
    settings = Settings(order_port=open_server.port, output_dir=str(tmp_path))
    assert ask_once({**ORDER, "client": STRATEGY, "id": 1}, settings)["ok"]
    assert ask_once({"op": "halt"}, settings)["mode"] == "halted"
    elsewhere = Settings(order_port=open_server.port, output_dir=str(tmp_path / "other"))
    assert ask_once({"op": "resume"}, elsewhere)["code"] == "NOT_ALLOWED"
    assert ask_once({"op": "resume"}, settings)["ok"]


def test_the_run_folders_token_holds_beside_a_file_without_one_for_the_stack(
    tmp_path: Path,
) -> None:
    (tmp_path / "tokens").write_text(f"{ALICE} client=alice\n{BOSS} role=operator\n")
    files = {"output_dir": str(tmp_path), "order_token_file": str(tmp_path / "tokens")}
    with running(tmp_path, **files) as server:
        settings = Settings(order_port=server.port, **files)
        assert ask_once({**ORDER, "client": STRATEGY, "id": 1}, settings)["ok"]


def test_a_token_of_another_stack_in_the_folder_is_no_obstacle(tmp_path: Path) -> None:
    """An earlier run on this host has left one; the file's is sent after it is refused."""
    (tmp_path / "tokens").write_text(f"{ALICE} client=alice\n")
    with running(tmp_path, order_token_file=str(tmp_path / "tokens")) as server:
        mine = {"output_dir": str(tmp_path / "mine"), "order_token_file": str(tmp_path / "tokens")}
        settings = Settings(order_port=server.port, **mine)
        keep_stack_token(stack_token_path(settings))
        assert ask_once({**ORDER, "client": "alice"}, settings)["ok"]
        (tmp_path / "tokens2").write_text("0" * 32)
        wrong = Settings(order_port=server.port, order_token_file=str(tmp_path / "tokens2"))
        with pytest.raises(ConnectionError, match="refused the token in"):
            ask_once({**ORDER, "client": "alice"}, wrong)


def test_a_wrong_token_file_ends_nobody_who_has_the_token_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"{ALICE} client=alice\n")
    files = {"output_dir": str(tmp_path), "order_token_file": str(tmp_path / "tokens")}
    with running(tmp_path, **files) as server:
        settings = Settings(order_port=server.port, **files)
        (tmp_path / "tokens").write_text("half a li")
        assert ask_once({"op": "positions"}, settings)["ok"]


def test_the_stacks_own_processes_get_in_while_somebody_guesses(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(BOSS)  # a bare token, which alone would have to wait
    files = {"output_dir": str(tmp_path), "order_token_file": str(tmp_path / "tokens")}
    with running(tmp_path, **files) as server:
        settings = Settings(order_port=server.port, **files)
        for _ in range(300):
            with server.stranger() as guesser:
                guesser.send({"op": "auth", "token": "guess " * 5})
                guesser.closed()
        with connect_orders(settings, 5.0, as_stack=True) as connection:
            connection.sendall(b'{"op":"positions"}*')
            assert connection.recv(1000).startswith(b'{"ok":true')


def test_a_strategy_does_not_trade_as_a_stranger(
    open_server: RunningServer, tmp_path: Path
) -> None:
    """A token of another order manager: the connection is refused, which is tried again later."""
    settings = Settings(order_port=open_server.port, output_dir=str(tmp_path / "other"))
    keep_stack_token(stack_token_path(settings))
    client = OrderClient.from_settings(settings)
    assert not client._try_to_connect()
    with pytest.raises(ConnectionAbortedError, match="the same RUN_DIR, or OUTPUT_DIR"):
        client._open(1.0)
    assert ask_once({"op": "ping"}, settings) == {"ok": True}, "others go on as strangers"


# ---- Roles


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "halt"},
        {"op": "halt", "kill": True},
        {"op": "halt", "client": "alice"},
        {"op": "resume"},
        {"op": "reduce"},
        {"op": "bus_alive"},
        {"op": "limits"},
        {"op": "limits", "client": "bob"},
        {"op": "cancel", "id": 1, "client": "bob"},
        {"op": "status", "id": 1, "client": "bob"},
        {"op": "orders", "client": "bob"},
        {"op": "positions", "client": "bob"},
    ],
)
def test_what_needs_the_operator(server: RunningServer, request_: dict[str, Any]) -> None:
    with enter(server, DESK) as bob, enter(server, ALICE) as alice, enter(server, BOSS) as boss:
        assert bob.ask({**LIMIT, "client": "bob", "id": 1})["ok"]
        assert alice.ask({**ORDER, "client": "alice", "id": 1})["ok"]
        refused = alice.ask(request_)
        assert (refused["ok"], refused["code"]) == (False, "NOT_ALLOWED")
        assert "role=operator" in refused["msg"]
        assert "python -m app orders" in refused["msg"]
        assert alice.ask({**ORDER, "client": "alice", "id": 2})["ok"], "nothing was halted"
        assert boss.ask({"op": "status", "id": 1, "client": "bob"})["order"]["status"] == "New"
        assert boss.ask(request_)["ok"]


def test_a_client_cancels_and_sees_its_own(server: RunningServer) -> None:
    with enter(server, ALICE) as alice:
        assert alice.ask({**LIMIT, "client": "alice", "id": 1})["ok"]
        assert alice.ask({"op": "limits", "client": "alice"})["used"]["open_orders"] == 1
        assert alice.ask({"op": "status", "id": 1, "client": "alice"})["ok"]
        assert alice.ask({"op": "cancel", "id": 1, "client": "alice"})["ok"]


def test_the_shared_token_of_a_bare_file_is_everybody(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(STACK)
    files = {"order_token_file": str(tmp_path / "token")}
    with running(tmp_path, **files) as server, enter(server, STACK) as client:
        assert client.ask({**ORDER, "client": STRATEGY, "id": 1})["ok"]
        assert client.ask({"op": "halt"})["ok"]
        assert client.ask({"op": "resume"})["ok"]


def test_a_server_without_settings_is_open() -> None:
    server = RunningServer(OrderManagerServer("127.0.0.1", 0), None)
    with server.client() as client:
        assert client.ask({**ORDER, "client": STRATEGY})["ok"] is True
        assert client.ask({"op": "halt"})["mode"] == "halted"
    server.stop()


# ---- What a client sees


def fill(server: RunningServer) -> None:
    """Two orders each of four clients, one of them open."""
    with enter(server, STACK) as stack:
        for name in ("alice", "bob", "desk-1", STRATEGY):
            assert stack.ask({**ORDER, "client": name, "id": 1})["ok"]
            assert stack.ask({**LIMIT, "client": name, "id": 2})["ok"]


@pytest.mark.parametrize(
    ("token", "names"),
    [
        (ALICE, ["alice"]),
        (DESK, ["bob", "desk-1"]),
        (BOSS, ["alice", "bob", "desk-1", STRATEGY]),
        (STACK, ["alice", "bob", "desk-1", STRATEGY]),
    ],
)
def test_queries_and_totals_are_of_its_own_clients(
    server: RunningServer, token: str, names: list[str]
) -> None:
    fill(server)
    with enter(server, token) as client:
        for every in (True, False):
            orders = client.ask({"op": "orders", "open": not every})["orders"]
            assert {order["client"] for order in orders} == set(names)
            assert len(orders) == len(names) * (2 if every else 1)
        answer = client.ask({"op": "positions"})
        assert [row["client"] for row in answer["positions"]] == names
        assert answer["total"]["qty"] == {"AAPL": 10 * len(names)}
        assert answer["total"]["exposure"] == pytest.approx(1732.0 * len(names))
        one = client.ask({"op": "positions", "limit": 1})
        assert one["more"] is (len(names) > 1)
        assert one["total"] == answer["total"], "of all pages"


def test_pages_lead_through_ones_own_among_many_others(server: RunningServer) -> None:
    with enter(server, STACK) as stack:
        for n in range(60):
            name = "alice" if n % 20 == 0 else f"other{n}"
            assert stack.ask({**ORDER, "client": name, "id": n})["ok"]
    with enter(server, DESK) as desk, enter(server, ALICE) as alice:
        assert desk.ask({"op": "positions", "limit": 1})["positions"] == []
        seen, before = [], (1 << 62)
        while True:
            page = alice.ask({"op": "orders", "open": False, "limit": 1, "before": before})
            seen += [order["id"] for order in page["orders"]]
            if not page["more"]:
                break
            before = page["before"]
        assert seen == [40, 20, 0]
        assert desk.ask({"op": "orders", "open": False})["orders"] == []


def test_totals_that_are_shown_again_are_each_clients_own(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Totals that take long are kept for a while; never one client's for another."""
    monkeypatch.setattr("app.order_manager.queries.TOTAL_QUICK_NS", 0)
    fill(server)
    with enter(server, ALICE) as alice, enter(server, DESK) as desk, enter(server, BOSS) as boss:
        for _ in range(2):
            for client, qty in ((boss, 40), (alice, 10), (desk, 20)):
                assert client.ask({"op": "positions"})["total"]["qty"] == {"AAPL": qty}


def test_a_client_that_has_not_traded_sees_nothing(server: RunningServer) -> None:
    fill(server)
    with enter(server, DESK) as stranger:
        assert stranger.ask({"op": "positions", "symbol": "MSFT"})["positions"] == []
    with enter(server, ALICE) as alice:
        assert alice.ask({"op": "orders", "client": "alice"})["ok"]


# ---- Places for the strategies


def test_made_up_names_lock_no_strategy_out(tmp_path: Path) -> None:
    with (
        running(tmp_path, order_clients_max=5) as server,
        server.stranger() as crowd,
        server.client() as stack,
    ):
        answers = [crowd.ask({**ORDER, "client": f"made-up-{n}"}) for n in range(8)]
        assert [answer.get("code") for answer in answers] == [None] * 5 + ["CLIENTS_MAX"] * 3
        for number in range(3):
            assert stack.ask({**ORDER, "client": f"strategy-{number}@00ff"})["ok"]
        assert stack.ask({**ORDER, "client": "yet-another"})["code"] == "CLIENTS_MAX"
