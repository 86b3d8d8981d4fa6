"""A cell through the four processes: a stack of its own on this host, from file to order store."""

import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from app.backtest.sweep.grid import Cell
from app.config.settings import Settings
from app.runtime.metrics import report_files

PORTS: Final = (20_000, 32_000)
"""Below the kernel's ephemeral range: no connection of another program takes one meanwhile."""
STOP_S: Final = 15.0
LOG_LINES: Final = 5
LOG_FILE: Final = "stack.log"
OF_THE_USERS_RUN: Final = ("expect_", "deadline_", "order_token_", "order_tls_")
"""Settings that begin so are at their defaults here: no expectation, no access from elsewhere."""


class LiveError(Exception):
    """The stack did not come to its end; the message has the last lines of its log."""


def live_hash(settings: Settings, cell: Cell) -> str:
    """Replay the whole file in four processes; the trades hash that their strategy reports.

    It uses ports, shared memory, order store and output folder of its own, and nothing is left.

    Raises:
        LiveError: the run is not complete.
    """
    with tempfile.TemporaryDirectory(prefix="sweep_verify_") as name:
        folder = Path(name)
        code = _run(own_settings(settings, cell, folder), folder / LOG_FILE)
        report = report_files.read(folder)
        hashes = {orders.trades_hash for orders in report.orders} if report else set()
        if code != 0 or len(hashes) != 1:
            log = (folder / LOG_FILE).read_text(errors="replace").splitlines()
            end = "\n".join(log[-LOG_LINES:])
            raise LiveError(f"the stack ended with code {code}; the end of its log:\n{end}")
        return hashes.pop()


def own_settings(settings: Settings, cell: Cell, folder: Path) -> Settings:
    """The user's settings for a stack that meets no other, and that runs the file once."""
    price, sentiment, order = _free_ports(3)
    token = f"sweep_{secrets.token_hex(4)}"
    defaults = msgspec.structs.asdict(Settings())
    left_out = {name: v for name, v in defaults.items() if name.startswith(OF_THE_USERS_RUN)}
    return msgspec.structs.replace(
        settings,
        **left_out,
        strategy_params=cell.text,
        gateway_host="127.0.0.1",
        order_manager_host="127.0.0.1",
        bind_host="127.0.0.1",
        price_port=price,
        sentiment_port=sentiment,
        order_port=order,
        control_port=0,
        dashboard_port=0,
        shm_price_book=f"{token}_book",
        shm_metadata=f"{token}_metadata",
        shm_tick_ring=f"{token}_ring",
        shm_metrics=f"{token}_metrics",
        replay="once",
        pace="max",
        start_paused=False,
        trading_mode="replay",
        ring_policy="lossless",
        sentiment_join="event",
        chaos=False,
        order_store_path="",
        output_dir=str(folder),
        run_dir="",
        run_id="",
        log_level="WARNING",
        log_format="text",
    )


def _run(settings: Settings, log_file: Path) -> int:
    with log_file.open("wb") as output:
        # A new session: Ctrl-C reaches the sweep, which then stops the stack.
        stack = subprocess.Popen(
            [sys.executable, "-m", "app.main"],
            env={**os.environ, **settings.to_environ()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        return stack.wait()
    except BaseException:
        stack.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            stack.wait(STOP_S)
        stack.kill()
        stack.wait()
        raise


def _free_ports(count: int) -> list[int]:
    """Ports on which nothing listens now."""
    found: set[int] = set()
    while len(found) < count:
        port = random.SystemRandom().randrange(*PORTS)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found.add(port)
    return list(found)
