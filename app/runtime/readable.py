"""Why this process cannot read a file or reach another process, and what to do about it."""

import os
import stat


def why_unreadable(path: str, error: OSError) -> str:
    """The reason of ``error``; where access is denied, with mode, owner and remedy."""
    if not isinstance(error, PermissionError):
        return error.strerror or str(error)
    uid, gid = os.geteuid(), os.getegid()
    try:
        found = os.stat(path)
    except OSError:
        return f"uid {uid} may not enter a folder above it; chmod o+x that folder, or move the file"
    mode = stat.S_IMODE(found.st_mode)
    return (
        f"uid {uid}, gid {gid} of this process may not read it: mode {mode:04o}, owner uid "
        f"{found.st_uid}, gid {found.st_gid}; make it readable for this process: chown {uid} "
        f"FILE, or chgrp {gid} FILE and chmod {mode | 0o040:04o} FILE (of a container's file, on "
        "the host)"
    )


def if_refused(error: BaseException | None, setting: str) -> str:
    """What to do if nobody listens on the port of ``setting``, as the end of a message."""
    if not isinstance(error, ConnectionRefusedError):
        return ""
    return f"; is the stack running? {setting} says where"
