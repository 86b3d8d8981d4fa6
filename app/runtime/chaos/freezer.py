"""Stops its parent process and continues it: ``python -S freezer.py PID SECONDS``.

Standard library only, so that it starts at once.
"""

import os
import signal
import sys
import time

POLL_S = 0.05


def main(parent: int, seconds: float) -> int:
    """Returns when the parent runs again, or has ended.

    Whoever has lost its parent has another one, so no signal meets a process that has got the same
    id since.
    """
    until_s = time.monotonic() + seconds
    if os.getppid() == parent:
        os.kill(parent, signal.SIGSTOP)
    while os.getppid() == parent:
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            os.kill(parent, signal.SIGCONT)
            break
        time.sleep(min(POLL_S, left_s))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2])))
