"""The files that ``DATA_PATH`` names: one, several, a folder, or a pattern."""

from glob import glob
from pathlib import Path
from typing import Final

from app.market_data.sources.errors import DataError, reading

_PATTERN: Final = frozenset("*?[")


def files_of(spec: str) -> list[Path]:
    """The files in the order in which they are read: as listed, else sorted by name.

    ``spec`` is a file, a folder, a pattern such as ``data/2025-*.csv.gz``, or names with commas
    between them, of which all but the first are in the folder of the first.

    Raises:
        DataError: there is none.
    """
    path = Path(spec)
    if "," in spec and not path.exists():
        first, *others = (name.strip() for name in spec.split(","))
        folder = Path(first).parent
        return [Path(first), *(folder / name for name in others if name)]
    if _PATTERN & set(spec) and not path.exists():
        found = sorted(Path(name) for name in glob(spec) if Path(name).is_file())
        if not found:
            raise DataError(f"{spec}: no file has a name like this")
        return found
    with reading(path):
        if not path.is_dir():
            return [path]
        found = sorted(
            entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith(".")
        )
    if not found:
        raise DataError(f"{path}: an empty folder: no file to load")
    return found
