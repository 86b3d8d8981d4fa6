"""Tokens that change while the order manager runs."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.config.settings import Settings
from app.order_manager.access.keyring import Keyring
from app.runtime.net.credentials import LOOK_EVERY_S
from app.runtime.net.stack_token import stack_token_path
from tests.support.children import eventually
from tests.support.orders.frames import ORDER
from tests.support.orders.process import Client, OrderManagerProcess
from tests.support.orders.server import RunningServer, running

OLD, NEW, KEPT = ("old-" + "o" * 20, "new-" + "n" * 20, "kept-" + "k" * 20)


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"{OLD} client=alice\n{KEPT} client=bob\n")
    return path


@pytest.fixture
def server(tmp_path: Path, tokens: Path) -> Iterator[RunningServer]:
    with running(tmp_path, order_token_file=str(tokens)) as started:
        yield started


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with capture_logs() as found:
        yield found


def enter(server: RunningServer, token: str) -> Client:
    client = server.stranger()
    client.ask({"op": "auth", "token": token})
    return client


def in_place(path: Path, text: str) -> None:
    """As in a container, whose secret is one mounted file."""
    path.write_text(text)


def by_rename(path: Path, text: str) -> None:
    draft = path.with_name("draft")
    draft.write_text(text)
    draft.rename(path)


@pytest.mark.parametrize("change", [in_place, by_rename])
def test_a_changed_file_holds_without_a_restart(
    server: RunningServer, tokens: Path, lines: list[Any], change: Callable[[Path, str], None]
) -> None:
    alice, bob, waiting = enter(server, OLD), enter(server, KEPT), server.stranger()
    assert alice.ask({**ORDER, "client": "alice"})["ok"]
    change(tokens, f"{NEW} client=alice\n{KEPT} client=bob2\n")
    started_s = time.monotonic()
    assert alice.closed(), "its token is gone"
    assert time.monotonic() - started_s < 3
    assert bob.ask({**ORDER, "client": "bob"})["code"] == "NOT_ALLOWED", "its names are others"
    assert bob.ask({**ORDER, "client": "bob2"})["ok"]
    with enter(server, NEW) as again:
        assert again.ask({**ORDER, "client": "alice"})["ok"]
    assert waiting.ask({"op": "auth", "token": OLD})["code"] == "BAD_TOKEN"
    events = [line["event"] for line in lines]
    assert events.count("credentials_loaded") == 1
    assert next(x for x in lines if x["event"] == "credentials_loaded")["tokens"] == 2
    assert events.count("credential_revoked") == 1
    assert not any(token in str(lines) for token in (OLD, NEW, KEPT))
    for client in (alice, bob, waiting):
        client.close()


@pytest.mark.medium
@pytest.mark.parametrize("broken", ["short", f"{NEW} role=admin\n{NEW}", "", None])
def test_a_broken_file_is_refused_once_and_the_old_tokens_stay(
    server: RunningServer, tokens: Path, lines: list[Any], broken: str | None
) -> None:
    with enter(server, OLD) as alice:
        if broken is None:
            tokens.unlink()
        else:
            tokens.write_text(broken)
        eventually(lambda: any(x["event"] == "credentials_refused" for x in lines), "a refusal")
        time.sleep(1.2)
        assert [x["event"] for x in lines] == ["credentials_refused"], "one line"
        assert f"ORDER_TOKEN_FILE={tokens}" in lines[0]["reason"]
        assert NEW not in str(lines)
        assert alice.ask({**ORDER, "client": "alice"})["ok"]
        with enter(server, KEPT) as bob:
            assert bob.ask({**ORDER, "client": "bob"})["ok"]
        by_rename(tokens, f"{KEPT} client=bob\n")
        assert alice.closed()


def test_a_file_that_is_being_written_is_not_loaded(
    tmp_path: Path, tokens: Path, lines: list[Any]
) -> None:
    """Half of it would be a sound file with fewer tokens."""
    ring = Keyring(Settings(order_token_file=str(tokens), output_dir=str(tmp_path)))
    key = ring.key_of(KEPT.encode())
    text = f"{OLD} client=alice\n{NEW} client=carol\n{KEPT} client=bob\n"
    for part in range(len(text)):
        tokens.write_text(text[: part + 1])
        os.utime(tokens, ns=(part, part))
        assert not ring.look(part * LOOK_EVERY_S)
        assert ring.find(key)
    assert ring.look(1000.0)
    assert ring.find(ring.key_of(NEW.encode()))
    assert [line["event"] for line in lines] == ["credentials_loaded"]


def test_answers_of_a_revoked_connection_arrive_first(server: RunningServer, tokens: Path) -> None:
    with enter(server, OLD) as alice:
        for n in range(50):
            alice.send({**ORDER, "client": "alice", "id": n})
        tokens.write_text(f"{KEPT} client=bob\n")
        assert [alice.read()["order"]["id"] for _ in range(50)] == list(range(50))
        assert alice.closed()


def test_the_stacks_token_is_written_again_and_stays_the_same(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        path = stack_token_path(Settings(output_dir=str(tmp_path)), server.port)
        token = path.read_text()
        for harm in (path.unlink, lambda: path.write_text("f" * 64), lambda: path.chmod(0o666)):
            harm()
            eventually(
                lambda: (
                    path.exists()
                    and path.read_text() == token
                    and path.stat().st_mode & 0o777 == 0o600
                ),
                "the token is back",
            )
        with server.client() as stack:
            assert stack.ask({"op": "halt"})["ok"]


@pytest.mark.medium
def test_the_stacks_token_outlives_a_killed_order_manager(tmp_path: Path) -> None:
    with OrderManagerProcess(tmp_path) as manager:
        token = (tmp_path / f"orders-{manager.port}.token").read_text()
        manager.environ["ORDER_PORT"] = str(manager.port)
        manager.kill()
        manager.start()
        assert (tmp_path / f"orders-{manager.port}.token").read_text() == token
        with manager.client() as client:
            assert client.ask({"op": "halt"})["ok"]
        assert token.strip() not in manager.log()
