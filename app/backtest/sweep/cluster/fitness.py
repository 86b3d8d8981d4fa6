"""Whether a worker would compute what this machine computes."""

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

MEND: Final = "start scheduler, workers and this command from one image or environment"
APP: Final = Path(__file__).parents[3]


@cache
def stack_digest() -> str:
    """Of the sources of ``app``: 16 hex digits."""
    digest = sha256()
    for file in sorted(APP.rglob("*.py")):
        data = file.read_bytes()
        digest.update(f"{file.relative_to(APP)} {len(data)}\n".encode() + data)
    return digest.hexdigest()[:16]


def facts_of(versions: Mapping[str, Any]) -> dict[str, str]:
    """What must be equal, of what Dask's ``get_versions`` tells of a process.

    A minor version of Python changes results (from 3.12 on ``sum`` adds floats more exactly), so
    does one of NumPy; and machines of two kinds round differently.  Between two versions of Dask
    messages may not be understood.
    """
    host, packages = versions["host"], versions["packages"]
    return {
        "Python": ".".join(str(host["python"]).split(".")[:2]),
        "machine": str(host["machine"]),
        "numpy": str(packages["numpy"]),
        "distributed": str(packages["distributed"]),
    }


def difference(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """What a worker has otherwise; empty if nothing."""
    found = [
        f"{name} {theirs.get(name)}, not {value}"
        for name, value in ours.items()
        if theirs.get(name) != value
    ]
    return ", ".join(found)
