"""The health check, against healthy and unhealthy servers and segments."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from app.runtime.container import health
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.shared_memory_utils.segment import SHM_DIRECTORY
from tests.support.paths import ROOT

Answer = Callable[[bytes], bytes]

SOURCE = ROOT / "images" / "health.sh"
SCRIPT = str(SOURCE) if SOURCE.exists() else "/usr/local/bin/health"


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    """``serve(answer, greeting)`` answers one frame per connection; its port."""
    listeners: list[socket.socket] = []

    def start(answer: Answer, greeting: bytes = b"") -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def loop() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(greeting)
                    connection.sendall(answer(connection.recv(4096)))

        threading.Thread(target=loop, daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    for listener in listeners:
        listener.close()


@pytest.fixture
def segment(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = f"test_{token_hex(6)}"
    monkeypatch.setenv("SHM_METRICS", name)
    yield name
    (SHM_DIRECTORY / name).unlink(missing_ok=True)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def pong(frame: bytes) -> bytes:
    return b"PONG*" if frame == b"PING*" else b""


def test_gateway_is_healthy_when_both_ports_answer(serve, monkeypatch):
    monkeypatch.setenv("PRICE_PORT", str(serve(pong, b"SYMBOLS|AAPL*")))
    monkeypatch.setenv("SENTIMENT_PORT", str(serve(pong)))
    assert health.main(["gateway"]) == 0


@pytest.mark.parametrize("broken", ["PRICE_PORT", "SENTIMENT_PORT"])
def test_gateway_is_unhealthy_when_a_port_is_closed(serve, monkeypatch, capsys, broken):
    monkeypatch.setenv("PRICE_PORT", str(serve(pong, b"SYMBOLS|AAPL*")))
    monkeypatch.setenv("SENTIMENT_PORT", str(serve(pong)))
    monkeypatch.setenv(broken, str(closed_port()))
    assert health.main(["gateway"]) == 1
    assert "refused" in capsys.readouterr().out


def test_gateway_is_unhealthy_when_a_port_does_not_answer(serve, monkeypatch, capsys):
    monkeypatch.setenv("PRICE_PORT", str(serve(lambda _: b"", b"SYMBOLS|AAPL*")))
    assert health.main(["gateway"]) == 1
    assert "closed after b'SYMBOLS|AAPL*'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "token", "code"),
    [
        (b'{"ok":true}*', "", 0),
        (b'{"ok": true}*', "", 0),
        (b'{"ok":false,"msg":"store"}*', "", 1),
        (b'{"ok":false,"msg":"token"}*', "/run/secrets/order_token", 1),
        (b"HTTP/1.1 400 Bad Request*", "", 1),
    ],
)
def test_order_manager(serve, monkeypatch, answer, token, code):
    monkeypatch.setenv("ORDER_PORT", str(serve(lambda _: answer)))
    monkeypatch.setenv("ORDER_TOKEN_FILE", token)
    assert health.main(["order_manager"]) == code


def test_heartbeat(segment, monkeypatch, capsys):
    assert health.main(["orderbook"]) == 1
    assert "does not exist" in capsys.readouterr().out

    metrics = ProcessMetrics.open(segment, "orderbook")
    metrics.heartbeat()
    assert health.main(["orderbook"]) == 1
    metrics.set_state("ready")
    assert health.main(["orderbook"]) == 0
    assert health.main(["strategy"]) == 1

    monkeypatch.setenv("HEARTBEAT_TIMEOUT_S", "0.000001")
    assert health.main(["orderbook"]) == 1
    assert "heartbeat" in capsys.readouterr().out
    metrics.close()


def test_unknown_service():
    assert health.main(["nobody"]) == 2
    assert health.main([]) == 2


def test_starts_without_third_party_packages(segment):
    """``-S`` hides site-packages, so the import of a third-party package would fail here."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "app.runtime.container.health", "orderbook"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")


HEARTBEAT_MODULES = {
    "app",
    "app.runtime",
    "app.runtime.container",
    "app.runtime.container.health",
    "app.runtime.metrics",
    "app.runtime.metrics.layout",
}
PORT_MODULES = {
    "app",
    "app.model",
    "app.model.wire",
    "app.model.wire.frames",
    "app.runtime",
    "app.runtime.container",
    "app.runtime.container.health",
    "app.runtime.net",
    "app.runtime.net.receive",
}
SLOW_IMPORTS = {"json", "logging", "numpy", "msgspec", "structlog", "dotenv", "ssl", "asyncio"}


def modules_after(service: str) -> set[str]:
    """Every module that a healthy ``service``'s check has loaded under ``-S``."""
    code = (
        "import sys\n"
        "from app.runtime.container import health\n"
        f"assert health.main([{service!r}]) == 0\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_a_heartbeat_check_loads_the_layout_and_nothing_else(segment):
    metrics = ProcessMetrics.open(segment, "orderbook")
    metrics.set_state("ready")
    loaded = modules_after("orderbook")
    metrics.close()
    assert {name for name in loaded if name.split(".")[0] == "app"} == HEARTBEAT_MODULES
    assert not loaded & (SLOW_IMPORTS | {"socket"})


def test_a_port_check_loads_the_frame_reader_and_nothing_else(serve, monkeypatch):
    monkeypatch.setenv("PRICE_PORT", str(serve(pong, b"SYMBOLS|AAPL*")))
    monkeypatch.setenv("SENTIMENT_PORT", str(serve(pong)))
    loaded = modules_after("gateway")
    assert {name for name in loaded if name.split(".")[0] == "app"} == PORT_MODULES
    assert not loaded & SLOW_IMPORTS


class TestPauses:
    """``images/health.sh``, through which every container's check runs."""

    @pytest.fixture
    def ask(self, tmp_path: Path) -> Callable[..., tuple[int, float]]:
        """``ask(pause_s, command)`` returns the exit code and the duration in seconds."""

        def run(pause_s: str, *command: str) -> tuple[int, float]:
            begin_s = time.monotonic()
            environ = {**os.environ, "TMPDIR": str(tmp_path)}
            done = subprocess.run([SCRIPT, pause_s, *command], env=environ, check=False)
            return done.returncode, time.monotonic() - begin_s

        return run

    def test_only_a_healthy_container_gets_a_pause(
        self, ask: Callable[..., tuple[int, float]], tmp_path: Path
    ) -> None:
        code, took_s = ask("30", "false")
        assert (code, took_s < 10) == (1, True)
        code, took_s = ask("30", "true")
        assert (code, took_s < 10) == (0, True)
        code, took_s = ask("0.5", "test", "-d", str(tmp_path))
        assert (code, took_s >= 0.5) == (0, True)

    def test_an_interrupted_pause_is_not_resumed(
        self, ask: Callable[..., tuple[int, float]], tmp_path: Path
    ) -> None:
        """The engine interrupts a check when it pauses the container, and at the timeout."""
        assert ask("0", "true")[0] == 0
        command = [SCRIPT, "30", "true"]
        environ = {**os.environ, "TMPDIR": str(tmp_path)}
        with subprocess.Popen(command, env=environ, start_new_session=True) as interrupted:
            deadline_s = time.monotonic() + 10
            while (tmp_path / "healthy").exists():
                assert time.monotonic() < deadline_s
                time.sleep(0.01)
            os.killpg(interrupted.pid, signal.SIGKILL)
        code, took_s = ask("30", "true")
        assert (code, took_s < 10) == (0, True)

    def test_a_mark_that_cannot_be_written_does_not_fail_the_check(
        self, ask: Callable[..., tuple[int, float]], tmp_path: Path
    ) -> None:
        tmp_path.rmdir()
        assert ask("30", "true")[0] == 0
        code, took_s = ask("30", "true")
        assert (code, took_s < 10) == (0, True)

    def test_a_failure_ends_the_pauses(self, ask: Callable[..., tuple[int, float]]) -> None:
        assert ask("0", "true")[0] == 0
        # Docker defines exit codes 0 and 1 only.
        assert ask("0", "sh", "-c", "exit 7")[0] == 1
        code, took_s = ask("30", "true")
        assert (code, took_s < 10) == (0, True)
