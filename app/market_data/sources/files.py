"""The files that ``DATA_PATH`` names: one, several, a folder, or a pattern.

A zip file with several files is like a folder: each is named ``archive.zip/file.csv``, and
nothing is unpacked.
"""

import zipfile
from glob import glob
from pathlib import Path, PurePosixPath
from typing import IO, Final

from app.market_data.sources.errors import DataError, reading

_PATTERN: Final = frozenset("*?[")
_ZIP: Final = b"PK\x03\x04"


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


def parts_of(spec: str) -> list[Path]:
    """The files of :func:`files_of`; in the place of a zip file with several, these, by name.

    Raises:
        DataError: there is none, or a zip file cannot be used.
    """
    return [part for path in files_of(spec) for part in _members_of(path)]


def archive_of(path: Path) -> Path | None:
    """The zip file that this one is in, if it is in one."""
    if path.exists():
        return None
    return next((above for above in path.parents if above.is_file()), None)


def open_part(path: Path) -> tuple[IO[bytes], int]:
    """A file, also one in a zip file, and its size.

    Raises:
        OSError, BadZipFile: it cannot be opened.
        DataError: it is packed in a way that needs another program.
    """
    archive = archive_of(path)
    if archive is None:
        return path.open("rb"), path.stat().st_size
    with zipfile.ZipFile(archive) as packed:
        for found in files_in(packed):
            if archive / found.filename == path:
                return open_member(path, packed, found), found.file_size
    return path.open("rb"), 0  # Raises.


def size_of(path: Path) -> int:
    """The size of a file, also of one in a zip file.

    Raises:
        OSError, BadZipFile, DataError: as :func:`open_part`.
    """
    file, size_bytes = open_part(path)
    file.close()
    return size_bytes


def open_member(path: Path, packed: zipfile.ZipFile, found: zipfile.ZipInfo) -> IO[bytes]:
    """One file of a zip file; ``path``: its name in a message.

    Raises:
        DataError: another program has to unpack it.
    """
    if found.flag_bits & 1:
        raise DataError(f"{path}: the zip file has a password: unpack it")
    try:
        return packed.open(found)
    except NotImplementedError as error:
        raise DataError(f"{path}: {error}: unpack it") from None


def files_in(packed: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files of a zip file, without those that systems hide, by name."""
    found = [
        info
        for info in packed.infolist()
        if not info.is_dir()
        and not info.filename.startswith("__MACOSX/")
        and not PurePosixPath(info.filename).name.startswith(".")
    ]
    return sorted(found, key=lambda info: info.filename)


def _members_of(path: Path) -> list[Path]:
    with reading(path, "zip"):
        with path.open("rb") as file:
            if file.read(len(_ZIP)) != _ZIP:
                return [path]
        with zipfile.ZipFile(path) as packed:
            names = [info.filename for info in files_in(packed)]
    if len(names) < 2:
        return [path]
    for name in names:
        # A path that begins with / would not be below the zip file any more.
        if not name.isprintable() or {"/", ".."} & set(PurePosixPath(name).parts):
            raise DataError(f"{path}: a file in it has a name that leads elsewhere: {name!r}")
    return [path / name for name in dict.fromkeys(names)]
