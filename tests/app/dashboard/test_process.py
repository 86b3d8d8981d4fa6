"""The page of a real stack: what strangers may do to it, and what it does to the stack: nothing."""

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.dashboard.page_stack import PageStack
from tests.support.children import eventually

pytestmark = [pytest.mark.medium, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageStack]:
    with PageStack(
        tmp_path_factory.mktemp("page"), replay="walk", pace="200/s", chaos=True
    ) as made:
        made.wait_page()
        yield made


def refused(stack: PageStack) -> int:
    return stack.counter("dashboard", "requests_refused")


def test_the_page_and_its_files_are_served_with_a_strict_policy(stack: PageStack) -> None:
    answer = stack.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"content-security-policy: default-src 'none'; script-src 'self';" in head
    assert b"server:" not in head.lower()
    assert b"<title>Trading stack</title>" in body
    assert stack.get("/static/panels/price.js")[0] == 200
    assert stack.get("/healthz") == (200, b'{"ok":true}')
    assert stack.get("/readyz")[0] == 200


def test_a_new_page_gets_the_state_of_the_stack(stack: PageStack) -> None:
    found = stack.snapshot("META")
    assert found["reset"] is True
    assert found["symbol"] == "META"
    services = {row["service"]: row for row in found["state"]["services"]}
    assert list(services) == ["gateway", "orderbook", "strategy", "order_manager"]
    assert all(row["light"] == "ok" for row in services.values())
    assert found["state"]["run"]["market"]["pace"] == "200/s"


@pytest.mark.parametrize(
    "target",
    [
        "/../app.py", "/static/../access.py", "/static/%2e%2e/access.py", "/static/..%2faccess.py",
        "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/vendor/../../web.py", "/.env",
        "/static/\\..\\access.py", "/static/vendor", "/static/README.md", "/static/%00", "//x",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_pages_files(stack: PageStack, target: str) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = stack.raw(request.encode())
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400", b"HTTP/1.1 307")), answer[:200]
    assert b"import" not in answer
    assert b"root:" not in answer


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/events", {"Host": "evil.example"}, 421),
        ("GET", "/events", {"Origin": "http://evil.example"}, 403),
        ("GET", "/", {"Host": "localhost:1", "Sec-Fetch-Site": "cross-site"}, 403),
        ("DELETE", "/", {}, 405),
        ("GET", "/", {"Content-Length": "3"}, 400),
        ("POST", "/commands/fault", {"Origin": "http://evil.example"}, 403),
        ("POST", "/commands/fault", {}, 403),
        ("POST", "/commands/transport", {"X-Trading-Command": "1"}, 415),
    ],
)
def test_what_is_not_allowed_is_refused_and_counted(
    stack: PageStack, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    before = refused(stack)
    sent = {"Host": "localhost", "Connection": "close"} | headers
    text = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    answer = stack.raw(f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 %d" % status), answer[:200]
    assert refused(stack) == before + 1
    assert "page_refused" in stack.log_path.read_text()


@pytest.mark.parametrize(
    ("path", "body", "part"),
    [
        ("/commands/transport", {"op": "explode"}, "not a command"),
        ("/commands/transport", {"op": "auth", "token": "x"}, "not a command"),
        ("/commands/transport", {"op": "step", "ticks": 0}, "not a command"),
        ("/commands/transport", {"op": "speed", "pace": "warp 9"}, "pace=warp 9"),
        ("/commands/transport", [1], "not a command"),
        ("/commands/fault", {"op": "kill", "service": "../gateway"}, "no name of a process"),
        ("/commands/fault", {"op": "kill", "service": "nobody"}, "no nobody listens"),
        ("/commands/fault", {"op": "freeze", "service": "strategy", "seconds": 1e9}, "not a fault"),
        ("/commands/fault", {"op": "melt", "service": "strategy"}, "not a fault"),
    ],
)
def test_a_wrong_command_says_what_is_wrong_and_changes_nothing(
    stack: PageStack, path: str, body: object, part: str
) -> None:
    status, answer = stack.post(path, body)
    assert status == 409
    assert answer["ok"] is False
    assert part in answer["msg"]


COMMAND_HEAD = (
    b"POST %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Trading-Command: 1\r\n"
    b"Content-Type: application/json\r\n"
)


@pytest.mark.parametrize("path", [b"/commands/fault", b"/commands/transport", b"/login"])
def test_a_body_that_is_no_text_or_ends_early_is_no_bug(stack: PageStack, path: bytes) -> None:
    head = COMMAND_HEAD % path
    answer = stack.raw(head + b'Content-Length: 11\r\n\r\n{"op":"\xff\xfe"}')
    assert answer.startswith((b"HTTP/1.1 409", b"HTTP/1.1 400")), answer[:100]
    with socket.create_connection(("127.0.0.1", stack.page_port)) as leaving:
        leaving.sendall(head + b"Content-Length: 100\r\n\r\n{")
    assert stack.get("/healthz")[0] == 200
    assert "Traceback" not in stack.log_path.read_text()


def test_a_body_without_a_length_is_not_read(stack: PageStack) -> None:
    pid = stack.pid_of("dashboard")
    assert pid is not None
    before_kb = _rss_kb(pid)
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    with contextlib.suppress(ConnectionError):
        answer = stack.raw(
            COMMAND_HEAD % b"/commands/transport"
            + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
            + 30 * chunk
        )
        assert answer.startswith(b"HTTP/1.1 411"), answer[:100]
    assert _rss_kb(pid) < before_kb + 10_000


def test_commands_reach_the_market(stack: PageStack) -> None:
    status, answer = stack.post("/commands/transport", {"op": "pause"})
    assert (status, answer["market"]["paused"]) == (200, True)
    tick = answer["market"]["tick"]
    status, answer = stack.post("/commands/transport", {"op": "step", "ticks": 7})
    assert status == 200
    assert answer["market"]["until"] in (tick + 7, None), "on the way, or there"
    eventually(
        lambda: stack.snapshot()["state"]["run"]["seq"] == tick + 7, "seven ticks", poll_s=0.1
    )
    assert stack.snapshot()["state"]["run"]["market"]["paused"] is True
    assert stack.post("/commands/transport", {"op": "resume"})[0] == 200


def test_a_client_that_never_reads_is_dropped_and_slows_no_page(stack: PageStack) -> None:
    before = stack.counter("dashboard", "pages_dropped")
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", stack.page_port))
        deaf.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(
            lambda: stack.counter("dashboard", "pages_dropped") > before, "it is dropped",
            deadline_s=60, poll_s=0.2,
        )  # fmt: skip
    begin_s = time.monotonic()
    assert stack.snapshot()["state"]
    assert time.monotonic() - begin_s < 5
    eventually(lambda: stack.counter("dashboard", "pages") == 0, "no page is left", poll_s=0.1)


def test_ten_thousand_connections_cost_neither_memory_nor_the_page(stack: PageStack) -> None:
    """Those above the limit are closed at once; the silent ones after seconds."""
    before = stack.counter("dashboard", "connections_refused")
    pid = stack.pid_of("dashboard")
    assert pid is not None
    held: list[socket.socket] = []
    with contextlib.ExitStack() as closing:
        for at in range(10_000):
            connection = closing.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", stack.page_port))
            if at < 250:
                held.append(connection)  # and says nothing
            else:
                connection.close()
        eventually(
            lambda: stack.counter("dashboard", "connections_refused") > before, "refused",
            deadline_s=30, poll_s=0.1,
        )  # fmt: skip
        assert stack.counter("dashboard", "connections") <= 256
        eventually(lambda: _answers(stack), "the page answers again", deadline_s=30, poll_s=0.2)
    assert _rss_kb(pid) < 100 * 1024
    assert stack.running


def _answers(stack: PageStack) -> bool:
    try:
        return stack.get("/healthz")[0] == 200
    except OSError:
        return False


def _rss_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def test_connections_that_have_ended_do_not_count(stack: PageStack) -> None:
    """More pages than there may be connections, one after the other."""
    before = stack.counter("dashboard", "connections_refused")
    for _ in range(400):
        assert stack.snapshot()["reset"] is True
    assert stack.counter("dashboard", "connections_refused") == before


def test_a_request_that_never_ends_is_ended(stack: PageStack) -> None:
    before = stack.counter("dashboard", "connections_refused")
    begin_s = time.monotonic()
    with contextlib.suppress(ConnectionResetError):
        assert stack.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", 30) == b""
    assert 5 < time.monotonic() - begin_s < 20
    assert stack.counter("dashboard", "connections_refused") == before + 1


@pytest.mark.parametrize("path", ["/metrics", "/trace?client=strategy&id=1"])
def test_a_flood_of_costly_requests_is_refused_and_the_page_goes_on(
    stack: PageStack, path: str
) -> None:
    time.sleep(1.1)  # what other tests have asked is forgotten
    before, limited = refused(stack), stack.counter("dashboard", "requests_limited")
    begin_s = time.monotonic()
    found = [stack.get(path) for _ in range(100)]
    took_s = time.monotonic() - begin_s
    many = [body for status, body in found if status == 429]
    assert 20 <= 100 - len(many) <= 21 + 20 * took_s
    if took_s < 3:
        assert many
        assert b"at most 20 requests a second" in many[0]
    assert stack.counter("dashboard", "requests_limited") - limited == len(many)
    assert refused(stack) - before == len(many)
    # Other addresses are as before, and after a second this one is, too.
    assert stack.get("/readyz")[0] == 200
    assert stack.snapshot()["reset"] is True
    time.sleep(1.1)
    assert stack.get(path)[0] in (200, 404)


def test_garbage_is_answered_and_forgotten(stack: PageStack) -> None:
    for data in (b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", os.urandom(64) + b"\r\n\r\n"):
        with contextlib.suppress(ConnectionResetError):
            assert stack.raw(data, 15)[:12] in (b"HTTP/1.1 400", b"")
    assert stack.get("/healthz")[0] == 200


def test_where_a_token_is_needed_the_page_asks_for_it(tmp_path: Path) -> None:
    token = "operator-token-0123456789"
    (tmp_path / "tokens").write_text(f"{token} role=operator\nother-token-0123 client=bob\n")
    with PageStack(
        tmp_path / "out", replay="walk", order_token_file=str(tmp_path / "tokens"),
        dashboard_host="0.0.0.0",
    ) as stack:  # fmt: skip
        stack.wait_page()
        assert stack.get("/events")[0] == 401
        assert stack.get("/trace?client=a&id=1")[0] == 401
        assert stack.post("/commands/transport", {"op": "pause"})[0] == 401
        assert stack.post("/login", {"token": "other-token-0123"})[0] == 401
        assert b"Sign in" in stack.get("/")[1], "led to the page that asks for it"
        assert stack.get("/healthz")[0] == 200
        bearer = {"Authorization": f"Bearer {token}"}
        assert stack.post("/commands/transport", {"op": "pause"}, **bearer)[0] == 200
        login = json.dumps({"token": token}).encode()
        answer = stack.raw(
            b"POST /login HTTP/1.1\r\nHost: page.example\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nX-Trading-Command: 1\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(login), login)
        )
        head = answer.partition(b"\r\n\r\n")[0].decode().lower()
        assert "httponly" in head
        assert "samesite=strict" in head
        cookie = head.split("set-cookie: ")[1].split(";")[0]
        # The name of a cookie is lower case anyway; its value is not.
        value = answer.decode().split("trading_session=")[1].split(";")[0]
        assert cookie.startswith("trading_session=")
        assert stack.get("/static/app.js", Cookie=f"trading_session={value}")[0] == 200
        assert stack.get("/trace?client=a&id=1", Cookie=f"trading_session={value}")[0] == 404
        assert token not in stack.log_path.read_text()


def test_the_stack_trades_the_same_if_the_page_hangs_is_killed_or_cannot_start(
    tmp_path: Path,
) -> None:
    settings = {"replay": "once", "pace": "8000/s"}
    with PageStack(tmp_path / "alone", **settings, **{"DASHBOARD_PORT": 0}) as alone:
        assert alone.wait(60) == 0
    with PageStack(tmp_path / "disturbed", **settings) as stack:
        stack.wait_page()
        first = stack.pid_of("dashboard")
        assert stack.signal("dashboard", signal.SIGKILL)
        stack.wait_until("restarted", lambda: stack.pid_of("dashboard") not in (None, first), 20)
        stack.wait_until(
            "page again", lambda: stack.log_path.read_text().count("page_ready") > 1, 20
        )
        assert stack.signal("dashboard", signal.SIGSTOP)
        assert stack.wait(60) == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with PageStack(tmp_path / "taken", **settings, **{"DASHBOARD_PORT": port}) as without:
            assert without.wait(60) == 0
            log = without.log_path.read_text()
    assert f"DASHBOARD_PORT={port}" in log
    assert "dashboard_off" in log
    for other in (stack, without):
        assert other.outcome() == alone.outcome()
    for each in (alone, stack, without):
        assert "dashboard" not in (each.folder / "performance_report.md").read_text()
