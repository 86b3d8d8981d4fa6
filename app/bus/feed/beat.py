"""The sign of life of the sequencer, which has no shared memory: a file that is young.

``python -S -m app.runtime.container.health sequencer`` looks at it.
"""

import os
import time
from pathlib import Path
from typing import Final

from app.runtime.container.health import SEQUENCER_FILE

EVERY_S: Final = 1.0


class Beat:
    """In ``folder``, which is RUN_DIR; nothing without one.  The file of an earlier life is gone.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: str) -> None:
        self._path = Path(folder) / SEQUENCER_FILE if folder else None
        self._next_s = 0.0
        if self._path:
            self._path.unlink(missing_ok=True)

    def beat(self) -> None:
        """Say that the run has begun on every shard, and that the process lives; cheap."""
        now_s = time.monotonic()
        if self._path is None or now_s < self._next_s:
            return
        self._next_s = now_s + EVERY_S
        try:
            os.utime(self._path)
        except FileNotFoundError:
            self._path.touch()
