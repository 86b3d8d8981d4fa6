"""A broker's disk of its own, which can be filled."""

import os
import subprocess
from pathlib import Path

DISK_BYTES = 96 << 20
BALLAST = "ballast"


class Disk:
    """A file system in memory over a folder that exists; needs root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder], check=True
        )

    def fill(self) -> None:
        """Nothing more can be written."""
        with (self.folder / BALLAST).open("wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 20)):
                    pass
            except OSError:
                return

    def free(self) -> None:
        """There is room again."""
        (self.folder / BALLAST).unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it; what it has is gone."""
        subprocess.run(["umount", "-l", self.folder], check=True)


def may_mount() -> bool:
    """Whether this process may give a broker a disk of its own."""
    return os.geteuid() == 0
