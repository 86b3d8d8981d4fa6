"""What each process of a container leaves behind: whether it lives, or how and why it ended.

One small JSON file per container in the folder ``lives`` of ``RUN_DIR``, which all containers
mount.  A process locks its file while it lives, so the kernel shows its death to the others,
however it dies and also after /dev/shm is another one.  ``python -m app verdict`` reads the files.

The next start of the same container reads its predecessor's record, too: an engine with the restart
policy ``on-failure`` starts every container again that ends with another code than 0, also where
that cannot help.  Outside containers there are no such files.
"""

import contextlib
import fcntl
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import msgspec

from app.runtime.container import ipc_owner
from app.runtime.container.keeper import EXIT_NEW_RUN
from app.runtime.lifecycle import EXIT_EXPECTATION, EXIT_FAULT, EXIT_INCOMPLETE

FOLDER: Final = "lives"
BYTES_MAX: Final = 16 * 1024
REASON_CHARACTERS_MAX: Final = 2000

# struct flock: l_type, l_whence, l_start, l_len, l_pid (0 for open-file-description locks)
_FLOCK: Final = struct.Struct("hhqqi4x")


class Life(msgspec.Struct, frozen=True):
    """One life of a container's process.

    ``host``: the container's id; ``epoch``: the life of the owner of /dev/shm; ``starts``: number
    of this life, to which the new runs that begin within it belong; ``started_ns``: UTC, since
    1970; ``final``: a restart would end in the same way, or the run is over.
    """

    service: str
    host: str
    epoch: str
    starts: int
    started_ns: int
    ended: bool = False
    exit_code: int = 0
    reason: str = ""
    final: bool = False

    @property
    def deployment(self) -> str:
        """The container that owned /dev/shm: another one after ``docker compose down``."""
        return self.epoch.partition("@")[0]


def folder_of(run_dir: str) -> Path:
    """Where the files are."""
    return Path(run_dir) / FOLDER


class LifeFile:
    """This process's own file.  Get one with :meth:`begin`; it stays locked until the exit."""

    def __init__(self, descriptor: int, life: Life, previous: Life | None) -> None:
        self._descriptor = descriptor
        self.life = life
        self.previous = previous
        """The last life of this container, if the owner of /dev/shm has lived on since."""

    @classmethod
    def begin(cls, service: str) -> Self | None:
        """Lock the file; None outside containers, or if the volume refuses to be written.

        Nothing is written yet: see :meth:`announce`.
        """
        run_dir, epoch = os.environ.get("RUN_DIR", ""), ipc_owner.epoch()
        if not run_dir or not epoch:
            return None
        host = socket.gethostname()
        path = folder_of(run_dir) / f"{service}@{host}.json"
        try:
            path.parent.mkdir(exist_ok=True)
            _remove_others(path.parent, epoch)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, 0, 1, 0))
        except OSError:
            return None
        before = _parse(os.pread(descriptor, BYTES_MAX, 0))
        starts = before.starts + (before.exit_code != EXIT_NEW_RUN) if before else 1
        life = Life(service, host, epoch, starts, time.time_ns())
        return cls(descriptor, life, before if before and before.epoch == epoch else None)

    def announce(self) -> None:
        """Say that this process lives."""
        self._write()

    def end(self, exit_code: int, reason: str, *, final: bool) -> None:
        """Say how it ends."""
        short = " ".join(reason.split())[:REASON_CHARACTERS_MAX]
        self.life = msgspec.structs.replace(
            self.life, ended=True, exit_code=exit_code, reason=short, final=final
        )
        self._write()

    @property
    def run_is_over(self) -> bool:
        """Whether the predecessor has judged its run.  Invalid settings may be valid by now."""
        judged = (EXIT_FAULT, EXIT_INCOMPLETE, EXIT_EXPECTATION)
        return bool(self.previous and self.previous.final and self.previous.exit_code in judged)

    def _write(self) -> None:
        text = msgspec.json.encode(self.life)
        with contextlib.suppress(OSError):  # A full volume must not end the process.
            os.pwrite(self._descriptor, text, 0)
            os.ftruncate(self._descriptor, len(text))


def _remove_others(folder: Path, epoch: str) -> None:
    """Remove the records of deployments that were taken down."""
    for path, life, alive in _records(folder):
        if not alive and life.deployment != epoch.partition("@")[0]:
            path.unlink(missing_ok=True)


def read_lives(run_dir: str) -> list[tuple[Life, bool]]:
    """Every record, with whether its process lives now."""
    return [(life, alive) for _, life, alive in _records(folder_of(run_dir))]


def _records(folder: Path) -> Iterator[tuple[Path, Life, bool]]:
    for path in sorted(folder.glob("*@*.json")):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                alive = ipc_owner.holds_lock(descriptor)
                life = _parse(os.pread(descriptor, BYTES_MAX, 0))
            finally:
                os.close(descriptor)
            if life is not None:
                yield path, life, alive


def _parse(text: bytes) -> Life | None:
    """A record; None while it is written, or if another version wrote it."""
    try:
        return msgspec.json.decode(text, type=Life)
    except msgspec.MsgspecError:
        return None
