"""The receiving side: a socket and a thread in each process, only with CHAOS=true.

Requests are faults that the process does to itself.  The thread waits in the kernel and costs
nothing until one comes.  Whoever may write to the socket is the stack's user: its folder has mode
0700, and it has mode 0600.
"""

import os
import socket
import stat
import threading
import time
from pathlib import Path
from typing import Final

from app.config.settings import Settings
from app.runtime.chaos import faults
from app.runtime.chaos.places import SUFFIX, folder_of, reached
from app.runtime.chaos.requests import (
    REQUEST_BYTES_MAX,
    BadRequest,
    Cut,
    Fault,
    Freeze,
    Kill,
    decode,
)
from app.runtime.log import get_logger
from app.runtime.net.strangers import refusal_window

log = get_logger()

NUMBER_MAX: Final = 64
"""Of processes with the same name, each with a socket."""


def listen(settings: Settings, name: str) -> bool:
    """Obey the requests to ``name`` from now on, in a thread; False, and a line, if impossible."""
    folder = folder_of(settings)
    try:
        connection, path = open_socket(folder, name)
    except OSError as error:
        log.warning("chaos_unavailable", path=str(folder), reason=str(error))
        return False
    Listener(connection).start()
    log.warning("chaos_ready", path=str(path))
    return True


def open_socket(folder: Path, name: str) -> tuple[socket.socket, Path]:
    """A bound socket and its path: ``name``, or ``name-2`` and so on while another one lives.

    Raises:
        OSError: the folder is somebody else's or cannot be written, or too many live.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with reached(folder) as short:
        found = os.stat(short)
        if found.st_uid != os.geteuid():
            raise PermissionError(f"belongs to user {found.st_uid}")
        if stat.S_IMODE(found.st_mode) != 0o700:
            os.chmod(short, 0o700)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            for number in range(1, NUMBER_MAX + 1):
                file = (name if number == 1 else f"{name}-{number}") + SUFFIX
                if _bind(connection, f"{short}/{file}"):
                    return connection, folder / file
            raise OSError(f"{NUMBER_MAX} processes called {name} live")
        except OSError:
            connection.close()
            raise


def _bind(connection: socket.socket, path: str) -> bool:
    """Bind; the socket of a process that has died gives way, that of a living one does not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(path)
            return False
        except ConnectionRefusedError:
            os.unlink(path)
        except FileNotFoundError:
            pass
    connection.bind(path)
    os.chmod(path, 0o600)
    return True


class Listener(threading.Thread):
    """Receives requests, one after the other; the process does not wait for it at its end."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(name="chaos", daemon=True)
        self._socket = connection
        self._refused = refusal_window()

    def run(self) -> None:
        """Never returns."""
        while True:
            data = self._socket.recv(REQUEST_BYTES_MAX + 1)
            try:
                fault = decode(data)
            except BadRequest as error:
                self._refuse(str(error))
                continue
            self._obey(fault)

    def _refuse(self, reason: str) -> None:
        kind = ("fault_refused", "")
        now_s = time.monotonic()
        for _, more in self._refused.take_rest(now_s):
            log.warning("faults_refused", more=more)
        if self._refused.add(kind, kind, now_s):
            log.warning("fault_refused", reason=reason)

    def _obey(self, fault: Fault) -> None:
        seconds = 0.0 if isinstance(fault, Kill) else fault.seconds
        op = type(fault).__name__.lower()
        log.warning("fault_injected", fault=op, seconds=seconds)
        started_s = time.monotonic()
        broken = 0
        try:
            if isinstance(fault, Kill):
                faults.kill()
            elif isinstance(fault, Freeze):
                faults.freeze(fault.seconds)
            else:
                assert isinstance(fault, Cut)
                broken = faults.cut(fault.seconds)
        except Exception as error:
            log.warning("fault_failed", fault=op, reason=str(error))
            return
        took_s = round(time.monotonic() - started_s, 3)
        log.warning("fault_ended", fault=op, took_s=took_s, connections=broken)
