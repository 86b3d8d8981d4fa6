"""``python -m app orders`` against a live server."""

import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from app.__main__ import main
from app.config.loading import load_settings
from app.order_manager import server as order_server
from app.order_manager.access import refusals
from app.order_manager.cli import target
from app.order_manager.store import store as order_store
from app.runtime.metrics.process_metrics import ProcessMetrics
from tests.support.fake_servers import unused_port
from tests.support.orders.server import running


class Cli:
    """Runs commands; keeps the last output."""

    def __init__(self, port: int, capsys: pytest.CaptureFixture[str]) -> None:
        self._port, self._capsys = str(port), capsys

    def __call__(self, *words: str) -> tuple[int, str]:
        """Exit code and everything printed."""
        code = main(["orders", *words, "--port", self._port, "--host", "127.0.0.1"])
        captured = self._capsys.readouterr()
        return code, captured.out + captured.err

    def json(self, *words: str) -> Any:
        """The answer."""
        return json.loads(self(*words, "--json")[1])


@pytest.fixture
def cli(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cli]:
    monkeypatch.chdir(tmp_path)
    # The server runs in this process: its warnings would be part of what a command prints.
    monkeypatch.setattr(refusals, "log", Mock())
    monkeypatch.setenv("OUTPUT_DIR", str(tmp_path))
    with running(tmp_path) as server:
        yield Cli(server.port, capsys)


def test_a_day_at_the_desk(cli: Cli) -> None:
    code, text = cli("send", "BUY", "10", "AAPL", "173.20", "--client", "desk", "--id", "7")
    assert code == 0
    assert text.splitlines()[0].split() == [
        "id", "client", "side", "qty", "symbol", "price", "status", "filled_qty", "avg_price",
    ]  # fmt: skip
    assert text.splitlines()[2].split() == [
        "7", "desk", "BUY", "10", "AAPL", "173.20", "Filled", "10", "173.20",
    ]  # fmt: skip
    assert (
        cli("send", "BUY", "5", "AAPL", "9", "--type", "LIMIT", "--tif", "GTC", "--id", "8")[0] == 0
    )
    assert "New" in cli("list")[1]
    assert "Filled" in cli("list", "--all", "--limit", "10")[1]
    assert "exec_id" in cli("status", "7", "--client", "desk")[1]
    assert "173.20" in cli("positions")[1]
    assert cli("cancel", "8")[0] == 0
    assert cli("list")[1] == "none\n"
    assert "qty_max" in cli("limits")[1]
    assert cli("ping") == (0, "ok\n")


def test_short_pages_are_joined_up_to_the_limit(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_server, "ROWS_SHARED", 2)
    for number in range(1, 8):
        assert cli("send", "BUY", "5", "AAPL", "9.10", "--id", str(number))[0] == 0
    answer = cli.json("list", "--all", "--limit", "5")
    assert [order["id"] for order in answer["orders"]] == [7, 6, 5, 4, 3]
    assert (answer["ok"], answer["more"]) == (True, True)
    assert '"price":9.10' in cli("list", "--all", "--json")[1].replace(" ", "")
    everything = cli.json("list", "--all")
    assert [order["id"] for order in everything["orders"]] == [7, 6, 5, 4, 3, 2, 1]
    assert not everything["more"]


def test_list_finds_orders_that_are_far_apart(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_store, "SCAN_ORDERS", 2)
    monkeypatch.setattr(order_store, "FEW_ORDERS", 0)
    for client in ("me", *["other"] * 8):
        assert cli("send", "BUY", "5", "AAPL", "9", "--client", client)[0] == 0
    assert "Filled" in cli("list", "--all", "--client", "me")[1]


def test_modes(cli: Cli) -> None:
    assert cli("halt", "--reason", "lunch") == (0, "the whole stack: halted\n")
    code, text = cli("send", "BUY", "1", "AAPL", "1")
    assert (code, text.split(":")[0]) == (1, "HALTED")
    assert cli("resume")[0] == 0
    assert cli("send", "BUY", "1", "AAPL", "1", "--client", "desk")[0] == 0
    assert cli("reduce", "--client", "desk") == (0, "desk: reduce\n")
    assert cli("halt", "--kill")[1].startswith("the whole stack: killed")


def test_a_price_is_sent_with_its_digits(cli: Cli) -> None:
    assert main(["orders", "send", "BUY", "1", "AAPL", "nan"]) == 2
    assert main(["orders", "send", "BUY", "1", "AAPL", "ten"]) == 2
    code, text = cli("send", "BUY", "1", "AAPL", "123456789.123456789", "--json")
    assert (code, '"price":123456789.123456789' in text) == (0, True)


def test_json_is_the_answer(cli: Cli) -> None:
    sent = cli.json("send", "BUY", "1", "AAPL", "1.5", "--ts", "2025-10-01 * ")
    assert sent["order"]["ts"] == "2025-10-01 * "
    assert cli.json("positions")["positions"][0]["avg_cost"] == 1.5
    refused = cli.json("cancel", "99")
    assert (refused["ok"], refused["code"]) == (False, "UNKNOWN_ORDER")


def test_nobody_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(tmp_path) as server:
        port = server.port
    assert Cli(port, capsys)("ping")[0] == 1


@pytest.mark.parametrize("words", [[], ["send"], ["send", "HOLD", "1", "A", "1"], ["cancel", "x"]])
def test_wrong_usage(words: list[str]) -> None:
    assert main(["orders", *words]) == 2


def test_token_and_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("correct-horse-battery-staple")
    with running(tmp_path, order_token_file=str(token)) as server:
        cli = Cli(server.port, capsys)
        monkeypatch.chdir(tmp_path)
        assert "\nAUTH_REQUIRED: " in "\n" + cli("positions")[1]
        monkeypatch.setenv("ORDER_TOKEN_FILE", str(token))
        assert cli("positions")[0] == 0
        wrong = tmp_path / "wrong"
        wrong.write_text("wrong-horse-battery-staple")
        monkeypatch.setenv("ORDER_TOKEN_FILE", str(wrong))
        assert cli("positions")[0] == 1
        monkeypatch.setenv("ORDER_TOKEN_FILE", str(tmp_path / "none"))
        assert cli("positions")[0] == 2


# ---- The address: this host's order manager, or the published port of the containers


@pytest.fixture
def on_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shell in a folder with an .env file, without settings; nothing runs on this host."""
    monkeypatch.chdir(tmp_path)
    for name in ("ORDER_PORT", "PUBLISHED_ORDER_PORT", "PUBLISH_HOST", "ORDER_MANAGER_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SHM_METRICS", f"test_cli_{secrets.token_hex(6)}")
    return tmp_path / ".env"


def address() -> tuple[str, int]:
    found = target(load_settings(), None, None)
    return found.order_manager_host, found.order_port


@pytest.mark.parametrize("where", ["shell", "file"])
def test_commands_follow_the_published_port(
    on_host: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    where: str,
) -> None:
    with running(on_host.parent) as server:
        if where == "shell":
            monkeypatch.setenv("PUBLISHED_ORDER_PORT", str(server.port))
        else:
            on_host.write_text(f"ORDER_PORT=9\nPUBLISHED_ORDER_PORT={server.port}\n")
        assert main(["orders", "ping"]) == 0
        assert capsys.readouterr().out == "ok\n"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", ("127.0.0.1", 62000)),
        ("ORDER_PORT=9", ("127.0.0.1", 9)),
        ("ORDER_PORT=9\nPUBLISHED_ORDER_PORT=62001", ("127.0.0.1", 62001)),
        ("PUBLISHED_ORDER_PORT=62001\nPUBLISH_HOST=0.0.0.0", ("127.0.0.1", 62001)),
        ("PUBLISHED_ORDER_PORT=62001\nPUBLISH_HOST=192.0.2.7", ("192.0.2.7", 62001)),
        ("PUBLISHED_ORDER_PORT=62001\nORDER_MANAGER_HOST=order_manager", ("order_manager", 62000)),
    ],
)
def test_address(on_host: Path, lines: str, expected: tuple[str, int]) -> None:
    on_host.write_text(lines)
    assert address() == expected


def test_an_order_manager_of_this_host_comes_first(
    on_host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_host.write_text("PUBLISHED_ORDER_PORT=62001\n")
    name = os.environ["SHM_METRICS"]
    metrics = ProcessMetrics.open(name, "order_manager")
    try:
        assert address() == ("127.0.0.1", 62000)
        later_ns = time.monotonic_ns() + 10**10
        monkeypatch.setattr("time.monotonic_ns", lambda: later_ns)
        assert address() == ("127.0.0.1", 62001), "it has been dead for ten seconds"
    finally:
        metrics.close()
        (Path("/dev/shm") / name).unlink()


def test_a_port_in_the_shell_or_on_the_command_line_comes_first(
    on_host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_host.write_text("PUBLISHED_ORDER_PORT=62001\n")
    monkeypatch.setenv("ORDER_PORT", "62002")
    assert address() == ("127.0.0.1", 62002)
    found = target(load_settings(), None, 62003)
    assert (found.order_manager_host, found.order_port) == ("127.0.0.1", 62003)


def test_without_an_answer_the_address_is_named(
    on_host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = unused_port()
    on_host.write_text(f"PUBLISHED_ORDER_PORT={port}\n")
    assert main(["orders", "ping"]) == 1
    assert f"no answer from the order manager on 127.0.0.1:{port}" in capsys.readouterr().err
    on_host.write_text("PUBLISHED_ORDER_PORT=many\n")
    assert main(["orders", "ping"]) == 2
    assert "PUBLISHED_ORDER_PORT=many: must be a TCP port" in capsys.readouterr().err
