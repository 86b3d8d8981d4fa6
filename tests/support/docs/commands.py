"""Runs the commands of the documentation as a user's shell does, on the
test's own ports, segments and folders."""

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.support.compose_stack import ComposeStack, free_ports
from tests.support.environ import default_environ
from tests.support.paths import ROOT

COMMAND_TIMEOUT_S = 200.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.05

ENDLESS = (
    (r"docker compose up(?!.* (-d|--exit-code-from))", "Received Order"),
    (r"(docker compose|make) logs\b(?!.*fault_injected)", "strategy"),
    (r"-m app run\b", "stack_ready"),
    (r"-m app watch\b", "Ctrl-C ends it"),
    (r"-m app stat\b(?!.*(--once|--hgrm))", "order_manager"),
    (r"\bcheck proof\b", '"difference":null'),
    (r"-m app\.gateway$", " ready "),
    (r"-m app\.orderbook$", "segments_ready"),
    (r"-m app\.order_manager$", " ready "),
)
"""Commands that run until Ctrl-C, and what they print once they work.  Not with REPLAY=once."""

NEEDS_STACK = re.compile(r"-m app (stat|trace|report|orders|store|replay)\b|make backup|/dev/tcp/")
MOVES_STACK = re.compile(r"-m app replay (?!status)")
NEEDS_STOPPED_STORE = re.compile(r"-m app store (restore|rebuild)\b|make restore")
STARTS_STACK = re.compile(r"docker compose up\b|docker compose run .*\bverdict$|make up\b")


class RunningCommand:
    """A command in a process group of its own, its output in a file."""

    def __init__(self, command: str, environ: Mapping[str, str], log: Path) -> None:
        self.command, self.log = command, log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self) -> str:
        """All it has printed."""
        return self.log.read_text(errors="replace")

    def wait(self, timeout_s: float = COMMAND_TIMEOUT_S) -> int:
        """Its exit code; fails and kills it after the timeout."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            raise AssertionError(f"not done in {timeout_s:g} s: {self}") from None

    def wait_for(self, text: str) -> None:
        """Wait until it prints ``text``."""
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        while text not in self.output():
            assert self._process.poll() is None, f"ended before {text!r}: {self}"
            assert time.monotonic() < deadline, f"no {text!r}: {self}"
            time.sleep(POLL_S)

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal sends it to the whole group; it must end as a user expects."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
        code = self.wait(STOP_TIMEOUT_S)
        assert code in (0, 128 + signal.SIGINT, -signal.SIGINT), f"exit code {code}: {self}"

    def __str__(self) -> str:
        return f"{self.command}\n{self.output()[-4000:]}"


def awaited_text(command: str) -> str:
    """What an endless command prints once it works; empty for one that ends by itself."""
    if "REPLAY=once" in command:
        return ""
    return next((text for pattern, text in ENDLESS if re.search(pattern, command)), "")


def run_to_end(command: str, environ: Mapping[str, str], log: Path) -> None:
    """Run a command; an endless one until it works, then Ctrl-C.  Fails unless it exits with 0."""
    running = RunningCommand(command, environ, log)
    text = awaited_text(command)
    if text:
        try:
            running.wait_for(text)
        finally:
            running.interrupt()
    else:
        code = running.wait()
        assert code == 0, f"exit code {code}: {running}"


def user_folder(folder: Path) -> Path:
    """A user's folder with a data file ``ticks.csv``."""
    user = folder / "user"
    user.mkdir(exist_ok=True)
    user.chmod(0o755)
    lines = (ROOT / "data/market_data.csv").read_text().splitlines(keepends=True)
    (user / "ticks.csv").write_text("".join(lines[:3000]))
    return user


def with_own_paths(command: str, user: Path) -> str:
    """The command with its placeholders and outputs in the test's folder."""
    command = command.replace("/path/to", str(user)).replace("./export", f"{user}/export")
    for name in ("orders-monday.sqlite3", "orders.json"):
        command = command.replace(name, f"{user}/{name}")
    return re.sub(r"(docker compose cp \S+) \.$", rf"\1 {user}", command)


class HostCommands:
    """Commands on this host; those that need a running stack share one, started at the first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._token = f"docs_{secrets.token_hex(4)}"
        self._stack: RunningCommand | None = None
        self._running = self._environ("running", PACE="2000/s", REPLAY="walk")

    def _environ(self, name: str, **settings: str) -> dict[str, str]:
        """Settings of a stack of our own."""
        prices, sentiment, orders, control = free_ports(4)
        token = f"{self._token}_{secrets.token_hex(2)}"
        return {
            **default_environ(),
            "COMPOSE_PROJECT_NAME": self._token.replace("_", "-"),  # a project without containers
            "PRICE_PORT": str(prices),
            "SENTIMENT_PORT": str(sentiment),
            "ORDER_PORT": str(orders),
            "CONTROL_PORT": str(control),
            "SHM_PRICE_BOOK": f"{token}_book",
            "SHM_METADATA": f"{token}_metadata",
            "SHM_TICK_RING": f"{token}_ring",
            "SHM_METRICS": f"{token}_metrics",
            "OUTPUT_DIR": str(self._folder / name),
            **settings,
        }

    def _start_stack(self) -> None:
        """The shared stack, with an order acknowledged."""
        command = f"exec {sys.executable} -m app run"
        self._stack = RunningCommand(command, self._running, self._folder / "stack.log")
        self._stack.wait_for("stack_ready")
        self._stack.wait_for("Received Order")

    def _stopped_store(self, scratch: Path) -> dict[str, str]:
        """Settings with a copy of the running stack's store, which no process uses."""
        environ = {**self._running, "OUTPUT_DIR": str(scratch / "stopped")}
        store = scratch / "stopped" / "orders.sqlite3"
        if not store.exists():
            store.parent.mkdir()
            copy = f"{sys.executable} -m app store backup {store}"
            run_to_end(copy, self._running, scratch / "copy.log")
        return environ

    def run(self, commands: list[str], scratch: Path) -> None:
        """Run the commands of one block in order; single processes stay up until its end."""
        own = self._environ(f"own-{secrets.token_hex(2)}")
        user, left_running = user_folder(scratch), []
        try:
            for number, command in enumerate(commands):
                log = scratch / f"{number}.log"
                text = with_own_paths(command, user)
                if re.search(r"-m app\.\w+$", command):
                    left_running.append(RunningCommand(text, own, log))
                    left_running[-1].wait_for(awaited_text(command))
                    continue
                environ = own
                if NEEDS_STACK.search(command) or NEEDS_STOPPED_STORE.search(command):
                    if self._stack is None:
                        self._start_stack()
                    environ = self._running
                if NEEDS_STOPPED_STORE.search(command):
                    environ = self._stopped_store(scratch)
                published = {"PUBLISHED_ORDER_PORT": environ["ORDER_PORT"]}
                run_to_end(text, environ | published, log)
        finally:
            for running in reversed(left_running):
                running.interrupt()
            if any(MOVES_STACK.search(command) for command in commands):
                self._stop_stack()  # other blocks begin with an undisturbed one

    def _stop_stack(self) -> None:
        if self._stack is not None:
            self._stack.interrupt()
            self._stack = None

    def close(self) -> None:
        """Stop the shared stack and remove its segments."""
        self._stop_stack()
        for path in Path("/dev/shm").glob(f"{self._token}*"):
            path.unlink(missing_ok=True)


class ContainerCommands:
    """Commands on a Compose project of the test's own."""

    def __init__(self, stack: ComposeStack, scratch: Path) -> None:
        self._stack, self._scratch = stack, scratch
        self._user = user_folder(scratch)

    def run(self, commands: list[str]) -> None:
        """Run the commands of one block in order, in a running stack unless the first starts it."""
        if not STARTS_STACK.search(commands[0]):
            self._stack.up()
        for number, command in enumerate(commands):
            text = with_own_paths(command, self._user)
            run_to_end(text, self._stack.environ, self._scratch / f"{number}.log")
