"""What of this program could be compiled and is not: it then runs as plain Python, slowly."""

import sys
from pathlib import Path
from typing import Final

from app.kernel import _kernel

MEND: Final = (
    "install gcc and the headers of this Python (Debian: apt-get install gcc libc6-dev "
    "python3-dev), then make setup"
)


def plain_modules() -> list[str]:
    """Names of the imported modules of app that run as plain Python and need not.

    Those are the kernel, and what has types for the compiler beside it (``.pxd``).
    """
    found = [] if _kernel.COMPILED else ["app.kernel._kernel"]
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if (
            name.startswith("app.")
            and file.endswith(".py")
            and Path(file).with_suffix(".pxd").exists()
        ):
            found.append(name)
    return sorted(found)


def warning() -> str:
    """One line for people; empty if all is compiled."""
    found = plain_modules()
    if not found:
        return ""
    return f"not compiled, so everything is slow: {', '.join(found)}; {MEND}"
