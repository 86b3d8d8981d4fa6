"""Which loaded modules are the user's own: they are loaded anew for each run."""

import importlib
import sys
import sysconfig
from pathlib import Path
from typing import Final

PYTHON: Final = tuple(f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib"))
PACKAGES: Final = {"site-packages", "dist-packages"}
STACK: Final = f"{Path(__file__).resolve().parents[2]}/"


class OwnModules:
    """The modules that a strategy brings, besides what is loaded when this is made.

    Python's, installed packages and the stack's stay loaded, as in any process.
    """

    def __init__(self, strategy: str) -> None:
        self._strategy = strategy.rpartition(":")[0]
        self._others = set(sys.modules) - {self._strategy}

    def files(self) -> dict[str, Path]:
        """The file of each, by the module's name."""
        found = {}
        for name in set(sys.modules) - self._others:
            file = getattr(sys.modules[name], "__file__", None)
            path = Path(file).resolve() if file else None
            if path and (name == self._strategy or not _installed(path)):
                found[name] = path
        return found

    def forget(self) -> None:
        """The next import reads their files again."""
        for name in self.files():
            del sys.modules[name]
        importlib.invalidate_caches()  # A file that is new in its folder is found, too.


def _installed(path: Path) -> bool:
    return str(path).startswith((*PYTHON, STACK)) or not PACKAGES.isdisjoint(path.parts)
