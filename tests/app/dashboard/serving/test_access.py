"""Who may read the page and command the stack."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.config.settings import Settings, SettingsError
from app.dashboard.serving.access import Access, Refusal, require_token, serves_strangers
from app.runtime.net.strangers import REFUSALS_LOGGED, REFUSALS_WINDOW_S

OPERATOR, STACK, CLIENT = "operator-token-0123", "stack-token-01234567", "client-token-0123456"
COMMAND = {
    "host": "127.0.0.1:8080",
    "origin": "http://127.0.0.1:8080",
    "x-trading-command": "1",
    "content-type": "application/json",
    "content-length": "14",
}


def guarded(tmp_path: Path) -> Access:
    """With a file of three tokens."""
    path = tmp_path / "tokens"
    path.write_text(f"{OPERATOR} role=operator\n{STACK} role=stack\n{CLIENT} client=alice\n")
    return Access(Settings(order_token_file=str(path), bind_host="0.0.0.0"))


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8080", "localhost:8080", "localhost", "[::1]:8080", "127.8.8.8"]
)
def test_this_machine_is_answered(host: str) -> None:
    assert Access(Settings()).refuse_origin({"host": host}, "http") is None


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:8080", "localhost.evil.example", "192.168.1.9:8080"]
)
def test_a_name_that_is_not_this_machines_is_refused_without_a_token(
    host: str, tmp_path: Path
) -> None:
    """DNS rebinding: a page of that name would be of the same origin."""
    refusal = Access(Settings()).refuse_origin({"host": host}, "http")
    assert refusal is not None
    assert refusal.status == 421
    # With a token the cookie belongs to one name, so another name has none.
    assert guarded(tmp_path).refuse_origin({"host": host}, "http") is None


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1:8080"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_sites_page_is_refused(headers: dict[str, str]) -> None:
    refusal = Access(Settings()).refuse_origin({"host": "127.0.0.1:8080", **headers}, "http")
    assert refusal is not None
    assert refusal.status == 403


def test_a_link_on_another_site_may_open_the_page() -> None:
    headers = {"host": "localhost:8080", "sec-fetch-site": "cross-site"}
    access = Access(Settings())
    assert access.refuse_origin({**headers, "sec-fetch-mode": "navigate"}, "http") is None


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("x-trading-command", None, 403),
        ("x-trading-command", "2", 403),
        ("content-type", "text/plain", 415),
        ("content-type", None, 415),
        ("content-length", None, 411),
        ("content-length", "-1", 411),
        ("content-length", "²", 411),
        ("content-length", "4097", 413),
        ("transfer-encoding", "chunked", 411),
    ],
)
def test_a_command_that_a_foreign_form_could_send_is_refused(
    header: str, value: str | None, status: int
) -> None:
    access = Access(Settings())
    assert access.refuse_command(COMMAND) is None
    headers = {k: v for k, v in {**COMMAND, header: value}.items() if v is not None}
    refusal = access.refuse_command(headers)
    assert refusal is not None
    assert refusal.status == status


def test_an_operator_and_the_stack_may_look_and_a_client_may_not(tmp_path: Path) -> None:
    """A client's token shows its own orders only; the page shows everybody's."""
    access = guarded(tmp_path)
    for token, allowed in ((OPERATOR, True), (STACK, True), (CLIENT, False), ("wrong", False)):
        headers = {"authorization": f"Bearer {token}"}
        assert (access.refuse_stranger(headers, "host") is None) == allowed, token
    refusal = access.refuse_stranger({}, "host")
    assert refusal is not None
    assert refusal.status == 401


def test_a_session_stands_for_its_token_until_it_ends(tmp_path: Path) -> None:
    access = guarded(tmp_path)
    cookie = f"a=b; trading_session={access.open_session(OPERATOR)}"
    assert access.refuse_stranger({"cookie": cookie}, "host") is None
    assert access.refuse_stranger({"cookie": "trading_session=guess"}, "host") is not None
    access.close_session(cookie)
    assert access.refuse_stranger({"cookie": cookie}, "host") is not None


def test_a_token_that_is_taken_out_of_the_file_ends_its_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = guarded(tmp_path)
    cookie = f"trading_session={access.open_session(OPERATOR)}"
    (tmp_path / "tokens").write_text(f"{STACK} role=stack\n{CLIENT} client=alice\n")
    now = [1000.0]
    monkeypatch.setattr("app.dashboard.serving.access.time.monotonic", lambda: now[0])
    for _ in range(3):
        now[0] += 1
        access.look()
    assert access.refuse_stranger({"cookie": cookie}, "host") is not None


def test_whoever_guesses_has_to_wait_and_nobody_else(tmp_path: Path) -> None:
    access = guarded(tmp_path)
    answers = [access.check_token(f"guess-{at}", "guesser") for at in range(40)]
    statuses = [answer.status for answer in answers if answer is not None]
    assert len(statuses) == 40
    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert access.check_token(OPERATOR, "guesser") is not None, "also with the right one"
    assert access.check_token(OPERATOR, "other") is None


def test_refusals_are_few_lines_and_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("app.dashboard.serving.access.time.monotonic", lambda: now[0])
    access = Access(Settings())
    with capture_logs() as logs:
        for _ in range(300):
            access.log_refusal("10.0.0.9", Refusal(403, "Origin"))
        access.log_refusal("10.0.0.8", Refusal(403, "Origin"))
        access.look()
        now[0] += REFUSALS_WINDOW_S
        access.look()
    assert [line["event"] for line in logs] == ["page_refused"] * (REFUSALS_LOGGED + 1) + [
        "pages_refused"
    ]
    assert logs[-1]["peer"] == "10.0.0.9"
    assert logs[-1]["more"] == 300 - REFUSALS_LOGGED


@pytest.mark.parametrize(
    ("settings", "strangers"),
    [
        ({}, False),
        ({"bind_host": "0.0.0.0"}, True),
        ({"dashboard_host": "0.0.0.0"}, True),
        ({"bind_host": "0.0.0.0", "dashboard_host": "127.0.0.1"}, False),
        ({"bind_host": "0.0.0.0", "order_published_host": "127.0.0.1"}, False),
        ({"bind_host": "0.0.0.0", "order_published_host": "0.0.0.0"}, True),
    ],
)
def test_where_other_machines_reach_it_a_token_is_needed(
    settings: dict[str, str], strangers: bool, tmp_path: Path
) -> None:
    chosen = Settings(**settings)  # type: ignore[arg-type]
    assert serves_strangers(chosen) == strangers
    if strangers:
        with pytest.raises(SettingsError, match="ORDER_TOKEN_FILE: required"):
            require_token(chosen)
    else:
        require_token(chosen)
