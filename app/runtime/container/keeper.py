"""Keeps the process of a container alive: ``python -S -m app.runtime.container.keeper COMMAND``.

A process that is killed (SIGKILL, out of memory, SIGSEGV) is started again in the same container,
within a fraction of the time that the engine needs, and without its help: the engine cannot start a
container while the owner of its IPC namespace is down, tries only once, and leaves it ``Exited``.

A process that exits with a code has decided to.  Then this one exits with the same code, and the
engine's restart policy applies; but a code other than 0 waits until an owner lives, so that the
engine's one attempt succeeds.  With EXIT_NEW_RUN it asks to be started again, at once: the stack
has begun another run.  What this cannot mend: a container's init that is killed while the
owner's container is down.  ``docker compose up -d`` starts what is left.

``--owner``: the command is the owner itself (app/runtime/container/ipc_owner.py); it waits for
nobody.  Standard library only, and no work while the process lives.
"""

import os
import signal
import subprocess
import sys
import time
from types import FrameType

from app.runtime.container import ipc_owner
from app.runtime.container.plain_log import print_line

EXIT_NEW_RUN = 75
"""Exit code of a process that is to be started again, because the market has jumped back."""

RESTART_DELAY_S, RESTART_DELAY_S_MAX = 0.1, 10.0
LIFE_S = 10.0
"""A process that has lived so long is restarted after the shortest delay again."""

POLL_S = 0.05
OWNER_RESTART_S = 3.0
"""Time for an owner to start that cannot show itself: there is no RUN_DIR."""

OWNER_TIMEOUT_S = 10.0
"""Wait for an owner before a start; the process itself then says what is missing."""


class Keeper:
    """Runs one command until it exits by itself or is stopped."""

    def __init__(self, command: list[str], joins: bool) -> None:
        self._command, self._joins = command, joins
        self._service = command[-1].rpartition(".")[2] if joins else "shm"
        policy, _, most = os.environ.get("RESTART_POLICY", "on-failure").partition(":")
        self._restarts = policy != "no"
        self._left = int(most) if most.isdigit() else None
        """Restarts of short lives until the engine decides; None: no limit."""
        self._delay_s = RESTART_DELAY_S
        self._child: subprocess.Popen[bytes] | None = None
        self._stop = False

    def run(self) -> int:
        """Start the command, again after each time it is killed; returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._pass_on)
        while True:
            self._wait_for_owner()
            if self._stop:
                return 0
            started_s = time.monotonic()
            code = self._live()
            if code == EXIT_NEW_RUN and not self._stop:
                continue
            killed = code < 0
            if self._stop or code == 0 or not self._restarts:
                break
            if not self._is_at_home():
                self._wait_for_way_back()
            if not (killed and self._is_at_home() and self._may_restart(started_s)):
                break
            self._delay(time.monotonic() - started_s, code)
        return 128 - code if code < 0 else code

    def _may_restart(self, started_s: float) -> bool:
        """``on-failure:3`` bounds lives that end soon, as the engine does."""
        if self._left is None or time.monotonic() - started_s > LIFE_S:
            return True
        self._left -= 1
        return self._left >= 0

    def _live(self) -> int:
        """The exit code of one life; a negative one is a signal."""
        self._child = subprocess.Popen(self._command)
        if self._stop:  # a signal between the last look and the start
            self._child.terminate()
        code = self._child.wait()
        self._child = None
        return code

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self._stop = True
        if self._child is not None:
            self._child.send_signal(number)

    def _is_at_home(self) -> bool:
        """Whether the process can live on in this /dev/shm: its owner lives, or comes back."""
        return not self._joins or ipc_owner.is_here() or not ipc_owner.epoch()

    def _wait_for_owner(self) -> None:
        """Before a start: the engine does not know that the owner has to be ready."""
        deadline = time.monotonic() + OWNER_TIMEOUT_S
        while self._joins and not (self._stop or ipc_owner.is_here()):
            if ipc_owner.is_elsewhere() or time.monotonic() > deadline:
                return
            time.sleep(POLL_S)

    def _wait_for_way_back(self) -> None:
        """Wait until the owner lives, here or in a new container."""
        if not ipc_owner.shows_elsewhere():
            time.sleep(OWNER_RESTART_S)
            return
        if not ipc_owner.is_elsewhere():
            print_line(self._service, "warning", "waiting_for_shm")
        while not (self._stop or ipc_owner.is_here() or ipc_owner.is_elsewhere()):
            time.sleep(POLL_S)

    def _delay(self, lived_s: float, code: int) -> None:
        """Pause before the next life: longer each time, if the lives are short."""
        delay_s = RESTART_DELAY_S if lived_s > LIFE_S else self._delay_s
        self._delay_s = min(2 * delay_s, RESTART_DELAY_S_MAX)
        print_line(
            self._service, "warning", "process_died",
            process=self._service, exit_code=code, action="restarting",
        )  # fmt: skip
        until_s = time.monotonic() + delay_s
        while not self._stop and time.monotonic() < until_s:
            time.sleep(min(delay_s, POLL_S))


def main(arguments: list[str]) -> int:
    """Keep the command of the arguments; 2: there is none."""
    joins = arguments[:1] != ["--owner"]
    command = arguments if joins else arguments[1:]
    if not command:
        print("usage: app.runtime.container.keeper [--owner] COMMAND ...", file=sys.stderr)
        return 2
    return Keeper(command, joins).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
