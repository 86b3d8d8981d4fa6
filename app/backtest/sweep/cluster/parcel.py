"""The strategy's own files on their way to a worker.

There they stand below a folder of the sweep, each at its path here.  So relative paths mean the
same, and what names a file reads the same once the folder's name is taken out.
"""

import os
from pathlib import Path
from typing import NamedTuple

from app.strategy.kit.own_files import beside


class Parcel(NamedTuple):
    """Contents by absolute path, and the folder in which the sweep runs."""

    files: dict[str, bytes]
    folder: str


def pack(strategy: str) -> Parcel:
    """The file that ``STRATEGY`` names, and those beside it that it imports; none of a module.

    Raises:
        OSError: one cannot be read.
    """
    source = strategy.rpartition(":")[0]
    paths = [Path(source), *beside(Path(source))] if source.endswith(".py") else []
    return Parcel({os.path.abspath(path): path.read_bytes() for path in paths}, os.getcwd())


def unpack(parcel: Parcel, root: str) -> None:
    """Write the files below ``root``, which must exist.

    Raises:
        ValueError: a path would leave it.
        OSError: it cannot be written.
    """
    os.makedirs(below(root, parcel.folder), exist_ok=True)
    for path, content in parcel.files.items():
        file = Path(below(root, path))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def below(root: str, path: str) -> str:
    """Where a path of the sending machine is.

    Raises:
        ValueError: it is not absolute, or would leave ``root``.
    """
    if not path.startswith("/") or os.path.normpath(path) != path:
        raise ValueError(f"{path}: must be an absolute path without . and ..")
    return root + path


def strategy_below(root: str, strategy: str) -> str:
    """``STRATEGY`` as a process whose folder is below ``root`` has to name it."""
    source, _, name = strategy.rpartition(":")
    if not source.endswith(".py") or not source.startswith("/"):
        return strategy
    return f"{below(root, os.path.abspath(source))}:{name}"
