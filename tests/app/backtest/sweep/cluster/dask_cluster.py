"""A real Dask cluster on loopback: a scheduler and workers, each a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.support.children import eventually
from tests.support.environ import default_environ
from tests.support.paths import ROOT

START_S = 60.0


def environ(path: Path | None = ROOT) -> dict[str, str]:
    """``path``: where a process finds the stack; None: nowhere."""
    found = default_environ()
    found.pop("PYTHONPATH", None)
    return found | ({"PYTHONPATH": str(path)} if path else {})


class DaskCluster(AbstractContextManager["DaskCluster"]):
    """``tls``: options of Dask's commands.  Its folder gets logs and scratch files."""

    def __init__(self, folder: Path, workers: int = 2, tls: Iterable[str] = ()) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self._tls = folder, list(tls)
        self.workers: list[subprocess.Popen[bytes]] = []
        file = folder / "scheduler.json"
        protocol = ["--protocol", "tls"] if self._tls else []
        # It has no stack on its path: it does not need one.
        where = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)]
        self.scheduler = self._start(["scheduler", *where, *protocol], None)
        try:
            self.address: str = eventually(
                lambda: json.loads(file.read_text())["address"],
                "the scheduler's address",
                START_S,
                ignore=(OSError, ValueError),
            )
            for _ in range(workers):
                self.add_worker()
        except BaseException:
            self.__exit__()
            raise

    def add_worker(self, *arguments: str, path: Path | None = ROOT) -> subprocess.Popen[bytes]:
        """Start one more; ``path``: where it finds the stack."""
        name = f"worker{len(self.workers)}"
        scratch = ["--local-directory", str(self.folder), "--name", name, "--host", "127.0.0.1"]
        nanny = [] if "--nworkers" in arguments else ["--no-nanny"]
        command = ["worker", self.address, "--nthreads", "1", *nanny, *scratch, *arguments]
        self.workers.append(self._start(command, path))
        return self.workers[-1]

    def _start(self, arguments: list[str], path: Path | None) -> subprocess.Popen[bytes]:
        with (self.folder / f"{arguments[0]}{len(self.workers)}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments, "--no-dashboard", *self._tls],
                cwd=self.folder,
                env=environ(path) | {"SLOW": "yes"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def cell_processes(self) -> list[int]:
        """Processes of this cluster's workers that run cells."""
        return [pid for worker in self.workers for pid in descendants(worker.pid) if is_cell(pid)]

    def scratch(self) -> list[Path]:
        """What sweeps have left in the workers' folders."""
        # Not rglob, which fails when a folder vanishes meanwhile.
        folders = ((Path(at), names) for at, names, _ in os.walk(self.folder))
        return [at / name for at, names in folders for name in names if name.startswith("sweep-")]

    def __exit__(self, *_error: object) -> None:
        for process in (*self.workers, self.scheduler):
            pids = [process.pid, *descendants(process.pid)]
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            process.wait(10)


def children(pid: int) -> list[int]:
    """Of a process; each of its threads may have some."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(each) for task in tasks for each in (task / "children").read_text().split()]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    """Children of a process and theirs."""
    return [each for child in children(pid) for each in (child, *descendants(child))]


def is_cell(pid: int) -> bool:
    """Whether a process is one that runs cells."""
    try:
        return b"sweep.cluster.cell_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
