"""How large a store is, and how much room its volume has left."""

import contextlib
import os
import time
from typing import Final, NamedTuple

from app.runtime.log import get_logger

log = get_logger()

LOOK_S: Final = 5.0
WARNING_INTERVAL_S: Final = 60.0


class Room(NamedTuple):
    """Bytes of the store's files, and bytes free on their volume."""

    store: int
    free: int


class RoomWatch:
    """Looks every few seconds, and warns ahead of a full disk."""

    def __init__(self, path: str, free_bytes_min: int) -> None:
        self._path = path
        self._free_bytes_min = free_bytes_min
        self._next_look_s = self._next_warning_s = 0.0

    def look(self) -> Room | None:
        """The sizes now; None between two looks, and for a store in memory."""
        now_s = time.monotonic()
        if now_s < self._next_look_s or self._path == ":memory:":
            return None
        self._next_look_s = now_s + LOOK_S
        store = 0
        for tail in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                store += os.stat(self._path + tail).st_size
        try:
            volume = os.statvfs(os.path.dirname(os.path.abspath(self._path)))
        except OSError:
            return None
        room = Room(store, volume.f_bavail * volume.f_frsize)
        if room.free < self._free_bytes_min and now_s >= self._next_warning_s:
            self._next_warning_s = now_s + WARNING_INTERVAL_S
            log.warning(
                "disk_nearly_full",
                path=self._path,
                free_bytes=room.free,
                store_bytes=room.store,
                mend="free space on the volume, or stop and: python -m app store prune",
            )
        return room
