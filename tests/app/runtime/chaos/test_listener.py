"""A process that listens, alone: what it does to itself, and whose requests it hears."""

import os
import signal
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.config.settings import Settings
from app.runtime.chaos.places import folder_of
from app.runtime.chaos.requests import REQUEST_BYTES_MAX, Cut, Freeze, Kill
from app.runtime.chaos.sender import NotDelivered, listeners, send
from tests.support.children import Child, Spawn, eventually

LISTENING = """
import sys, socket, threading, time
from app.config.settings import Settings
from app.runtime.chaos.listener import listen
from app.runtime.log import setup_logging

setup_logging(sys.argv[1])
sys.stderr = sys.stdout
assert listen(Settings(run_dir=sys.argv[2]), sys.argv[1])
server = socket.create_server(("127.0.0.1", 0))
own = socket.create_connection(server.getsockname())
peer, _ = server.accept()
print(server.getsockname()[1], flush=True)
for line in sys.stdin:
    word = line.strip()
    if word == "time":
        print(time.monotonic(), flush=True)
    elif word == "read":
        print(own.recv(10), flush=True)
    elif word == "connect":
        again = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        again.settimeout(5)
        print(again.recv(10), flush=True)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A folder so deep that the path of a socket would be too long."""
    folder = tmp_path / ("deep" * 20) / ("deeper" * 20)
    folder.mkdir(parents=True)
    return Settings(run_dir=str(folder))


@pytest.fixture
def start(spawn: Spawn, settings: Settings) -> Callable[..., Child]:
    """Starts a process that listens under a name."""

    def started(name: str = "orderbook") -> Child:
        child = spawn(LISTENING, name, settings.run_dir)
        child.port = int(child.line())  # type: ignore[attr-defined]
        return child

    return started


def state_of(child: Child) -> str:
    """R, S, T (stopped) ... of the process."""
    text = Path(f"/proc/{child.process.pid}/stat").read_text()
    return text.rpartition(")")[2].split()[0]


def test_kill(start: Callable[..., Child], settings: Settings) -> None:
    child = start()
    send(settings, "orderbook", Kill())
    assert child.process.wait(10) == -signal.SIGKILL


def test_a_frozen_process_stands_still_and_goes_on_by_itself(
    start: Callable[..., Child], settings: Settings
) -> None:
    child = start()
    started_s = time.monotonic()
    send(settings, "orderbook", Freeze(1.0))
    eventually(lambda: state_of(child) == "T", "stopped")
    child.tell("time")
    answered_s = float(child.line())
    assert answered_s >= started_s + 1.0
    assert state_of(child) != "T"
    # It can be frozen again, and leaves no child behind.
    eventually(lambda: not _children(child), "no child")
    send(settings, "orderbook", Freeze(0.2))
    eventually(lambda: state_of(child) == "T", "stopped again")
    eventually(lambda: state_of(child) != "T", "continued again")


def _children(child: Child) -> str:
    pid = child.process.pid
    return Path(f"/proc/{pid}/task/{pid}/children").read_text() + "".join(
        path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")
    )


def test_who_is_killed_while_frozen_leaves_nobody_who_would_continue_another(
    start: Callable[..., Child], settings: Settings
) -> None:
    child = start()
    send(settings, "orderbook", Freeze(30.0))
    eventually(lambda: state_of(child) == "T", "stopped")
    helper = int(_children(child).split()[0])
    child.kill()
    eventually(lambda: not Path(f"/proc/{helper}").exists(), "the end of the helper", 5)


def test_cut_breaks_connections_and_leaves_the_listener(
    start: Callable[..., Child], settings: Settings
) -> None:
    child = start()
    with socket.create_connection(("127.0.0.1", child.port), 5) as ours:  # type: ignore[attr-defined]
        child.tell("read")  # blocks: nobody sends
        time.sleep(0.1)
        send(settings, "orderbook", Cut(0.5))
        assert child.line() == "b''"
        assert ours.fileno() > 0
    child.tell("connect")  # one that begins within the time is broken, too
    assert child.line() == "b''"
    time.sleep(0.6)
    child.tell("time")
    assert float(child.line())
    with socket.create_connection(("127.0.0.1", child.port), 5):  # type: ignore[attr-defined]
        pass


def test_only_its_user_reaches_it(start: Callable[..., Child], settings: Settings) -> None:
    start()
    folder = folder_of(settings)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "orderbook.sock").stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_another_users_request_does_not_arrive(
    start: Callable[..., Child], settings: Settings, spawn: Spawn
) -> None:
    child = start()
    for folder in folder_of(settings).parents:
        if folder.stat().st_uid == 0 and folder.is_relative_to("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o711)
    stranger = spawn(
        """
        import os, sys
        from app.config.settings import Settings
        from app.runtime.chaos.requests import Kill
        from app.runtime.chaos.sender import NotDelivered, send
        os.setresuid(65534, 65534, 65534)
        try:
            send(Settings(run_dir=sys.argv[1]), "orderbook", Kill())
        except NotDelivered as error:
            print(error, flush=True)
        """,
        settings.run_dir,
    )
    assert stranger.line().endswith("Permission denied")
    child.tell("time")
    assert float(child.line())


def test_garbage_is_refused_and_the_next_request_is_obeyed(
    start: Callable[..., Child], settings: Settings
) -> None:
    child = start()
    path = folder_of(settings) / "orderbook.sock"
    folder = os.open(path.parent, os.O_PATH)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
        garbage = (b"", b"kill", b'{"op":"kill","x":1}', b"[" * 10_000)
        for data in (*garbage, b" " * (REQUEST_BYTES_MAX + 1), b'{"op":"freeze","seconds":1e9}'):
            connection.send(data)
    os.close(folder)
    child.tell("time")
    assert float(child.line())
    send(settings, "orderbook", Kill())
    assert child.process.wait(10) == -signal.SIGKILL


def test_a_restarted_process_takes_its_place_and_a_second_one_gets_another(
    start: Callable[..., Child], settings: Settings
) -> None:
    first = start("strategy")
    second = start("strategy")
    assert listeners(settings) == ["strategy", "strategy-2"]
    first.kill()
    with pytest.raises(NotDelivered, match="strategy does not run just now"):
        send(settings, "strategy", Kill())
    third = start("strategy")
    assert listeners(settings) == ["strategy", "strategy-2"]
    send(settings, "strategy", Kill())
    assert third.process.wait(10) == -signal.SIGKILL
    send(settings, "strategy-2", Kill())
    assert second.process.wait(10) == -signal.SIGKILL


def test_a_folder_that_others_may_enter_is_closed(
    start: Callable[..., Child], settings: Settings
) -> None:
    folder = folder_of(settings)
    folder.mkdir()
    folder.chmod(0o777)
    start()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_sender_says_why_nobody_hears_it(
    start: Callable[..., Child], settings: Settings
) -> None:
    with pytest.raises(NotDelivered, match="start the stack with CHAOS=true"):
        send(settings, "gateway", Kill())
    with pytest.raises(NotDelivered, match="no name of a process"):
        send(settings, "../gateway", Kill())
    child = start()
    with pytest.raises(NotDelivered, match=r"no gateway listens in .*; these do: orderbook"):
        send(settings, "gateway", Kill())
    send(settings, "orderbook", Freeze(30.0))
    eventually(lambda: state_of(child) == "T", "stopped")

    def send_many() -> None:
        for _ in range(100_000):
            send(settings, "orderbook", Kill())

    with pytest.raises(NotDelivered, match="orderbook has many faults waiting"):
        send_many()
