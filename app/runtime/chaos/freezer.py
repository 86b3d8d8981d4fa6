"""Stops a process and continues it: ``python -S freezer.py PIDFD SECONDS``.

Standard library only, so that it starts at once.
"""

import select
import signal
import sys


def main(descriptor: int, seconds: float) -> int:
    """Returns when the process runs again, or has ended."""
    ended = select.poll()
    ended.register(descriptor, select.POLLIN)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGSTOP)
        ended.poll(seconds * 1000)
        signal.pidfd_send_signal(descriptor, signal.SIGCONT)
    except ProcessLookupError:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2])))
