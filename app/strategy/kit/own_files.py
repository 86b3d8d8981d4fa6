"""The files that a strategy in a file of its own consists of: it, and what it imports beside it."""

import ast
from collections.abc import Iterator
from pathlib import Path


def beside(path: Path) -> list[Path]:
    """The files of its folder that a strategy's file imports, also through one another, sorted.

    Read from the source without running it.  An import inside a function counts, too.
    """
    folder = path.parent
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        for target in _imports(file, folder):
            if target not in found and target != path:
                found.add(target)
                waiting.append(target)
    return sorted(found)


def _imports(file: Path, folder: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return  # The import itself will say what is wrong.
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(folder, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            start = file.parents[node.level - 1] if 0 < node.level <= len(file.parents) else folder
            module = node.module.split(".") if node.module else []
            for alias in node.names:
                yield from _files(start, [*module, alias.name])


def _files(folder: Path, names: list[str]) -> Iterator[Path]:
    """What ``import a.b.c`` reads below a folder, as far as it is there."""
    for count in range(1, len(names) + 1):
        place = folder.joinpath(*names[:count])
        for file in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if file.is_file():
                yield file
