"""The processes that are attacked, each kind with the settings that bring its limits near."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from structlog.testing import capture_logs

from tests.attacks.trader import NAME, Trader
from tests.chaos.bad_feed import BadFeed, Faults
from tests.chaos.host import HostStack
from tests.support.children import eventually
from tests.support.environ import default_environ
from tests.support.orders.faulty_disk import faulty_disk
from tests.support.orders.process import Client, OrderManagerProcess
from tests.support.orders.server import running
from tests.support.paths import ROOT
from tests.support.ports import free_ports

TOKEN: Final = "correct-horse-battery-staple"
ORDER: Final = {"side": "BUY", "symbol": "AAPL", "qty": 1, "price": 5000}
LINE: Final = re.compile(
    r"^(?:\S+Z (?:WARNING|ERROR) \w+ (?:([a-z]\w*)|(\w+) Order \d)|\w+: (invalid settings))",
    re.MULTILINE,
)
TICKS_PER_S: Final = 200
HOST: Final = "127.0.0.1"
LINK_HOST: Final = "127.0.0.3"


class Stage:
    """What is attacked, and the trader beside it."""

    order_port: int
    token = ""
    certificate = ""
    log_path: Path
    order: dict[str, Any] = ORDER
    trader: Trader

    def meet(self) -> None:
        """The trader arrives: the processes are ready."""
        self.trader = Trader(self.order_port, self.order, self.token, self.certificate)

    def log(self) -> str:
        """The log so far."""
        return self.log_path.read_text(errors="replace")

    def position(self) -> int:
        """The trader's shares, as the order manager has them."""
        with self.friend() as client:
            found = client.ask({"op": "positions", "client": NAME})["positions"]
        return int(found[0]["qty"]) if found else 0

    def friend(self) -> Client:
        """A connection that is no attacker's."""
        client = Client(self.order_port)
        if self.token:
            assert client.ask({"op": "auth", "token": self.token})["ok"]
        return client

    def close(self) -> None:
        """End everything."""


class Manager(Stage):
    """An order manager by itself, without a market."""

    moved_log = Path()

    def __init__(self, folder: Path, **settings: object) -> None:
        (port,) = free_ports(1)
        self.process = OrderManagerProcess(folder, order_port=port, **settings)
        try:
            self.process.start(wait=False).wait_port()
            self.order_port, self.log_path = port, self.process.log_path
            self._prepare(folder)
            self.meet()
        except BaseException:
            self.close()
            raise

    def _prepare(self, folder: Path) -> None:
        """Before the trader arrives."""

    def wait_for(self, event: str) -> None:
        """Until the log has it."""
        eventually(lambda: event in self.log(), event)

    def restart(self) -> None:
        """SIGKILL, and start it again."""
        self.process.kill()
        self.process.start()

    def log(self) -> str:
        """The log so far; its folder may be another than at the start."""
        return (self.log_path if self.log_path.exists() else self.moved_log).read_text()

    def close(self) -> None:
        """End everything."""
        if hasattr(self, "trader"):
            self.trader.close()
        self.process.__exit__(None, None, None)


class Faulty(Stage):
    """An order manager in this process, on a disk that fails on demand."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._stack = contextlib.ExitStack()
        self.disk = self._stack.enter_context(faulty_disk())
        self._lines = self._stack.enter_context(capture_logs())
        try:
            self.order_port = self._stack.enter_context(running(folder)).port
            self.meet()
        except BaseException:
            self._stack.close()
            raise

    def log(self) -> str:
        """What was logged, in the form of a log file."""
        return "".join(
            f"0Z {line['log_level'].upper()} order_manager {line['event']} {line}\n"
            for line in self._lines
        )

    def close(self) -> None:
        """End everything."""
        if hasattr(self, "trader"):
            self.trader.close()
        self._stack.close()


class Guarded(Manager):
    """With a token."""

    token = TOKEN

    def __init__(self, folder: Path, **settings: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "token").write_text(TOKEN)
        super().__init__(folder, order_token_file=folder / "token", **settings)


class Encrypted(Manager):
    """With TLS."""

    def __init__(self, folder: Path, **settings: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate, key = certificate(folder, "orders")
        files = {"order_tls_cert_file": self.certificate, "order_tls_key_file": key}
        super().__init__(folder, **files, **settings)

    def position(self) -> int:
        """Not asked for: the trader's answers say enough."""
        return self.trader.acknowledged


class Whole(Stage):
    """Gateway, orderbook, order manager and strategy; the trader trades at the book's prices."""

    order = {"side": "BUY", "symbol": "AAPL", "qty": 1, "type": "MARKET"}  # noqa: RUF012

    def __init__(self, folder: Path, **settings: object) -> None:
        chosen = {"replay": "walk", "pace": f"{TICKS_PER_S}/s", **settings}
        self.stack = HostStack(folder, **chosen)
        self.log_path = self.stack.log_path
        try:
            self._prepare()
            self.stack.start()
            self.stack.wait_ready()
            self.order_port = self.stack.order_port
            self.wait_ticks(10)
            self.meet()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        """Before the processes start."""

    def operator(self) -> dict[str, str]:
        """The frame that makes a client an operator: with the token of the stack's own folder."""
        path = self.stack.folder / f"orders-{self.order_port}.token"
        return {"op": "auth", "token": path.read_text().strip()}

    def wait_ticks(self, count: int) -> None:
        """Until the strategy has consumed that many more ticks."""
        end = self.ticks() + count
        self.stack.wait_until(f"tick {end}", lambda: self.ticks() >= end, 20)

    def ticks(self) -> int:
        """Ticks that the strategy has consumed."""
        return self.stack.counter("strategy", "ticks_consumed")

    def close(self) -> None:
        """End everything."""
        if hasattr(self, "trader"):
            self.trader.close()
        self.stack.stop()


class Linked(Whole):
    """The same; a proxy between gateway and orderbook can misbehave."""

    def __init__(self, folder: Path) -> None:
        self._links: list[BadFeed] = []
        settings = {"gateway_host": LINK_HOST, "heartbeat_timeout_s": 1, "pace": "2000/s"}
        super().__init__(folder, **settings)

    def _prepare(self) -> None:
        for port in (self.stack.price_port, self.stack.sentiment_port):
            self._links.append(BadFeed((HOST, port), Faults(), 3, (LINK_HOST, port)))

    def misbehave(self, faults: Faults) -> None:
        """From now on, with prices; connections that are open are closed."""
        self._links[0].faults = faults
        self._links[0].restore()

    def cut(self) -> None:
        """Forward no prices until the next :meth:`misbehave`."""
        self._links[0].cut()

    def close(self) -> None:
        """End everything."""
        super().close()
        for link in self._links:
            link.close()


def near_limits(folder: Path) -> Whole:
    """The whole stack with low limits."""
    return Whole(
        folder,
        client_stall_timeout_s=0.4,
        gateway_clients_max=30,
        order_unsent_bytes_max=65536,
        risk_client_orders_per_s_max=1000,
        risk_client_open_orders_max=50,
        risk_price_collar_bps=1000,
        risk_price_age_ms_max=60_000,
    )


STAGES: Final[dict[str, Callable[[Path], Stage]]] = {
    "whole": near_limits,
    "bounded": lambda folder: Manager(
        folder,
        order_connections_max=40,
        order_idle_timeout_s=0.5,
        order_input_bytes_max=1 << 20,
        order_frames_per_s_max=1000,
        order_clients_max=50,
        risk_symbols_max=200,
        trading_mode="live",
    ),
    "guarded": Guarded,
    "encrypted": Encrypted,
    "linked": Linked,
    "fast": lambda folder: Whole(
        folder, pace="10000/s", client_stall_timeout_s=0.4, client_buffer_limit_bytes=65536
    ),
    "plain": Manager,
    "faulty": Faulty,
    "alone": Manager,
}


@cache
def certificate(folder: Path, name: str) -> tuple[str, str]:
    """A certificate that signs itself, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", f"/CN={name}", "-out", str(cert), "-keyout"]
    command += [str(key), "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True)
    return str(cert), str(key)


def run_process(module: str, folder: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run a process of the stack until it ends by itself."""
    chosen = {name.upper(): str(value) for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", module],
        cwd=folder,
        env={**default_environ(), "PYTHONPATH": str(ROOT), "OUTPUT_DIR": str(folder), **chosen},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
