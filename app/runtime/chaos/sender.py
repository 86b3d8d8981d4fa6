"""The sending side: the command line and the dashboard."""

import errno
import socket

from app.config.settings import Settings
from app.runtime.chaos.places import NAME, SUFFIX, folder_of, reached
from app.runtime.chaos.requests import Fault, encode


class NotDelivered(Exception):
    """Nobody got the request; the message says why and what to do."""


def listeners(settings: Settings) -> list[str]:
    """The names of the processes that have a socket, also of one that has just died."""
    files = folder_of(settings).glob(f"*{SUFFIX}")
    return sorted(file.stem for file in files if NAME.fullmatch(file.stem))


def send(settings: Settings, name: str, fault: Fault) -> None:
    """Ask the process ``name`` to do ``fault`` to itself; there is no answer.

    Raises:
        NotDelivered: no such process listens.
    """
    folder = folder_of(settings)
    if not NAME.fullmatch(name):
        raise NotDelivered(f"{name!r} is no name of a process")
    try:
        with (
            reached(folder) as short,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection,
        ):
            connection.setblocking(False)
            connection.sendto(encode(fault), f"{short}/{name}{SUFFIX}")
    except (FileNotFoundError, ConnectionRefusedError) as error:
        if error.errno == errno.ECONNREFUSED:
            raise NotDelivered(f"{name} does not run just now; try again") from None
        known = ", ".join(listeners(settings))
        mend = f"these do: {known}" if known else "start the stack with CHAOS=true (make demo)"
        raise NotDelivered(f"no {name} listens in {folder}; {mend}") from None
    except BlockingIOError:
        raise NotDelivered(f"{name} has many faults waiting; is it frozen?") from None
    except OSError as error:
        raise NotDelivered(f"{folder}: {error.strerror or error}") from None
