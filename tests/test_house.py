"""The house rules: which room may import which, and how large files and folders may get.

A room is a folder of ``app/``, or a file directly in it.  Each rule is a function that returns the
violations of a tree.  It is applied to this project, and to small invented trees that break it.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

from app.kernel.compiled import TYPED
from tests.house_rooms import MAY_IMPORT, PROCESSES
from tests.support.paths import ROOT

ENTRIES_MAX = 14
ROOMS_MAX = 16
"""Of ``app`` itself, and its tests: a reader finds each process there by its name."""
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
COMPILED = (".pyx", ".py")
"""What C is generated from."""
SOURCES = {".py", ".pyi", ".pyx", ".pxi", ".h", ".c"}
EMPTY = tuple(f"app/runtime/{room}__init__.py" for room in ("", "container/", "metrics/"))
LIGHT = tuple(f"app/runtime/container/{name}.py" for name in ("ipc_owner", "keeper", "plain_log"))


class Import(NamedTuple):
    """One import: the dotted name, and the file of app that it reaches (None: outside app)."""

    source: Path
    line: int
    name: str
    target: Path | None


def imports(tree: Path, file: Path) -> Iterator[Import]:
    """Every import of a file, also inside functions and under TYPE_CHECKING."""
    if file.suffix in (".pyx", ".pxi"):  # Cython: ast cannot parse it
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if found := re.match(r"\s*(?:from|cimport|import) (app[\w.]*)", line):
                yield Import(file, number, found[1], _file_of(tree, found[1]))
        return
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            folder = file.relative_to(tree).parts[: -node.level] if node.level else ()
            module = ".".join([*folder, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        for name in names:
            yield Import(file, node.lineno, name, _file_of(tree, name))  # type: ignore[attr-defined]


def _file_of(tree: Path, name: str) -> Path | None:
    """The file that ``import name`` or ``from ... import name`` reaches; None outside app."""
    path = tree.joinpath(*name.split("."))
    for _ in range(2):  # the module, else the module that holds the name
        if path == tree:
            return None
        if (path / "__init__.py").exists():
            return path / "__init__.py"
        for found in path.parent.glob(f"{path.name}.*"):
            if found.suffix in (".py", ".pyi", ".so"):
                return found.with_name(f"{path.name}.py")
        path = path.parent
    return None


def room_of(tree: Path, file: Path) -> str:
    """``gateway`` for app/gateway/server.py, ``main`` for app/main.py."""
    inside = file.relative_to(tree / "app")
    return str(inside.parent) if len(inside.parts) > 1 else inside.stem


def files(tree: Path, *suffixes: str) -> list[Path]:
    """Sources below app/ and tests/, without the C that is generated beside its source."""
    found = (path for part in ("app", "tests") for path in (tree / part).rglob("*"))
    return sorted(
        path
        for path in found
        if path.suffix in (suffixes or SOURCES)
        and not (path.suffix == ".c" and any(map(Path.exists, map(path.with_suffix, COMPILED))))
    )


def app_imports(tree: Path) -> Iterator[Import]:
    """Every import of app by app."""
    for file in files(tree, ".py", ".pyi", ".pyx", ".pxi"):
        if file.is_relative_to(tree / "app"):
            yield from (each for each in imports(tree, file) if each.target is not None)


def _at(tree: Path, found: Import) -> str:
    return f"{found.source.relative_to(tree)}:{found.line} imports {found.name}"


# ---- The rules


def imports_only_rooms_below(tree: Path) -> list[str]:
    """A room imports itself and the rooms that the table allows."""
    return [
        f"{_at(tree, each)}: {here} may not import {there}"
        for each in app_imports(tree)
        if each.target
        and (here := room_of(tree, each.source)) != (there := room_of(tree, each.target))
        and there not in MAY_IMPORT.get(here, set())
    ]


def every_room_is_in_the_table(tree: Path) -> list[str]:
    """A new room gets a place in the table first."""
    here = {room_of(tree, file) for file in files(tree, ".py") if file.is_relative_to(tree / "app")}
    here -= {"__init__"}
    return [f"{room} is not in the table" for room in sorted(here - MAY_IMPORT.keys())]


def no_file_imports_in_a_circle(tree: Path) -> list[str]:
    """Neither directly nor through others."""
    graph: dict[Path, set[Path]] = {}
    for each in app_imports(tree):
        if each.target and each.target != each.source:
            graph.setdefault(each.source, set()).add(each.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" <- ".join(str(path.relative_to(tree)) for path in error.args[1])]
    return []


def nothing_imports_a_door(tree: Path) -> list[str]:
    """A door, a package's ``__init__``, is for users and ``__main__``; app imports the file."""
    return [
        _at(tree, each)
        for each in app_imports(tree)
        if each.target and each.target.name == "__init__.py" and each.source.stem != "__main__"
    ]


def folders_are_small(tree: Path) -> list[str]:
    """At most 14 visible entries, besides the page that describes the folder."""
    found = []
    for folder in sorted({parent for file in files(tree) for parent in file.parents}):
        if folder.is_relative_to(tree / "app") or folder.is_relative_to(tree / "tests"):
            names = {p.name for p in folder.iterdir()} - {"README.md"}
            visible = [n for n in names if not n.startswith((".", "_")) and not n.endswith(".so")]
            rooms = folder in (tree / "app", tree / "tests/app")
            if len(visible) > (ROOMS_MAX if rooms else ENTRIES_MAX):
                found.append(f"{folder.relative_to(tree)}: {len(visible)} entries")
    return found


def files_are_short(tree: Path) -> list[str]:
    """At most 400 lines."""
    lengths = {file: len(file.read_text().splitlines()) for file in files(tree)}
    return [
        f"{file.relative_to(tree)}: {lines} lines"
        for file, lines in lengths.items()
        if lines > FILE_LINES_MAX
    ]


def functions_are_short(tree: Path) -> list[str]:
    """At most 60 lines, docstring included."""
    return [
        f"{file.relative_to(tree)}:{node.lineno} {node.name}: {lines} lines"
        for file in files(tree, ".py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]


def light_starts_stay_light(tree: Path) -> list[str]:
    """What runs in every container beside its process starts without site packages."""
    found = [f"{name} is not empty" for name in EMPTY if (tree / name).stat().st_size]
    return found + [
        _at(tree, each)
        for file in LIGHT
        for each in imports(tree, tree / file)
        if each.name.partition(".")[0] not in sys.stdlib_module_names
        and not (each.target and str(each.target.relative_to(tree)) in (*LIGHT, EMPTY[1]))
    ]


Rule = Callable[[Path], list[str]]
RULES: tuple[Rule, ...] = (
    imports_only_rooms_below,
    every_room_is_in_the_table,
    no_file_imports_in_a_circle,
    nothing_imports_a_door,
    folders_are_small,
    files_are_short,
    functions_are_short,
    light_starts_stay_light,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_project_keeps_the_rule(rule: Rule) -> None:
    assert rule(ROOT) == []


def test_the_table_has_no_circle_and_no_process_imports_another() -> None:
    floors: dict[str, set[str]] = {}
    for room, allowed in MAY_IMPORT.items():
        house = room.partition("/")[0]
        floors.setdefault(house, set()).update(each.partition("/")[0] for each in allowed)
        floors[house].discard(house)
    TopologicalSorter(floors).prepare()
    # A room of a process may import that process; no file of them imports in a circle.
    above = {
        room
        for room, allowed in MAY_IMPORT.items()
        if allowed & (PROCESSES - {room.partition("/")[0]})
    }
    rooms = {f"backtest/{room}" for room in ("proof", "results", "sweep", "sweep/cluster", "watch")}
    assert above == rooms | {"backtest", "main", "__main__", "bus/feed"}


def test_what_is_compiled_besides_the_kernel_has_its_types() -> None:
    typed = ROOT / "images/types"
    found = {path.relative_to(typed).with_suffix("") for path in typed.rglob("*.pxd")}
    assert {".".join(path.parts) for path in found} == TYPED
    for path in found:
        assert (ROOT / path).with_suffix(".py").exists(), path


# ---- Each rule can fail

SOUND = {
    **dict.fromkeys(EMPTY, ""),
    **dict.fromkeys(LIGHT, "import os\nfrom app.runtime.container import plain_log\n"),
    "app/__init__.py": "",
    "app/model/__init__.py": "",
    "app/model/orders.py": "import dataclasses\n",
    "app/model/wire/__init__.py": "",
    "app/model/wire/frames.py": "from app.model import orders\nfrom app.model.orders import A\n",
    "app/kernel/__init__.py": "",
    "app/kernel/_kernel.pyi": "",
    "app/gateway/__init__.py": "from app.gateway.process import main\n",
    "app/gateway/__main__.py": "from app.gateway import main\n",
    "app/gateway/process.py": "from app.kernel import _kernel\nimport app.model.wire.frames\n",
    "tests/test_all.py": "from app.gateway import main\n",
}
LONG_FUNCTION = "def long():\n" + "    pass\n" * 60
LONG_METHOD = "class A:\n" + "".join(f"    {line}\n" for line in LONG_FUNCTION.splitlines())
BROKEN: list[tuple[Rule, str, str]] = [
    (imports_only_rooms_below, "app/model/orders.py", "from app.model.wire import frames\n"),
    (imports_only_rooms_below, "app/model/orders.py", "from ..gateway import process\n"),
    (imports_only_rooms_below, "app/execution/risk.py", "import app.gateway.process\n"),
    (imports_only_rooms_below, "app/kernel/loops.pxi", "from app.model cimport orders\n"),
    (imports_only_rooms_below, "app/runtime/log.py", "import os, app.gateway.process\n"),
    (
        imports_only_rooms_below,
        "app/strategy/process.py",
        "def late():\n    from app.gateway.process import main\n",
    ),
    (
        imports_only_rooms_below,
        "app/orderbook/process.py",
        "if TYPE_CHECKING:\n    from app.gateway.process import main\n",
    ),
    (imports_only_rooms_below, "app/attic/box.py", "from app.model import orders\n"),
    (every_room_is_in_the_table, "app/attic/box.py", ""),
    (every_room_is_in_the_table, "app/helpers.py", ""),
    (no_file_imports_in_a_circle, "app/model/orders.py", "from app.model.wire import frames\n"),
    (nothing_imports_a_door, "app/gateway/server.py", "from app.gateway import main\n"),
    (nothing_imports_a_door, "app/main.py", "from app import gateway\n"),
    (nothing_imports_a_door, "app/main.py", "import app.gateway\n"),
    (files_are_short, "app/model/long.py", "x = 1\n" * 401),
    (files_are_short, "app/kernel/long.pxi", "\n" * 401),
    (functions_are_short, "app/model/long.py", LONG_FUNCTION),
    (functions_are_short, "tests/test_long.py", LONG_METHOD),
    (light_starts_stay_light, EMPTY[0], '"""Not empty."""\n'),
    (light_starts_stay_light, EMPTY[1], "import os\n"),
    (light_starts_stay_light, LIGHT[0], "from app.runtime import log\n"),
    (light_starts_stay_light, LIGHT[0], "def late():\n    import numpy\n"),
    *((folders_are_small, f"{part}/f{ENTRIES_MAX}.py", "") for part in ("app/model", "tests")),
]  # fmt: skip


def build(tree: Path, sources: dict[str, str]) -> Path:
    """Write an invented project."""
    for name, text in sources.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tree


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_sound_tree_keeps_the_rule(tmp_path: Path, rule: Rule) -> None:
    assert rule(build(tmp_path, SOUND)) == []


@pytest.mark.parametrize(("rule", "name", "text"), BROKEN)
def test_the_rule_finds_a_violation(tmp_path: Path, rule: Rule, name: str, text: str) -> None:
    full = {}
    if rule is folders_are_small:
        folder = name.rpartition("/")[0]
        full = {f"{folder}/f{number}.py": "" for number in range(ENTRIES_MAX)}
    tree = build(tmp_path, {**SOUND, **full})
    build(tree, {name: text})
    found = rule(tree)
    assert len(found) == 1, found


def test_every_rule_is_shown_to_fail() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)
