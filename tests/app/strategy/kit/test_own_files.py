"""The files beside a strategy are part of it: found, imported, and in the run's name."""

from pathlib import Path

import pytest

from app.config.settings import Settings
from app.strategy.attach import fingerprint
from app.strategy.base import load_strategy
from app.strategy.failure import StrategyError
from app.strategy.kit.own_files import beside

CLASS = """
from app.strategy import Strategy


class Mine(Strategy):
    def on_tick(self, tick):
        return side(tick)
"""


def write(folder: Path, **files: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)


def names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in beside(folder / "mine.py")]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import numpy, json\n", []),
        ("import one\n", ["one.py"]),
        ("import one as two\n", ["one.py"]),
        ("from one import two\n", ["one.py"]),
        ("def f():\n    import one\n", ["one.py"]),
        ("import over\n", ["one.py", "over.py"]),
        ("import circle\n", ["circle.py"]),
        ("import pack.part\n", ["pack/__init__.py", "pack/other.py", "pack/part.py"]),
        ("from pack import part\n", ["pack/__init__.py", "pack/other.py", "pack/part.py"]),
        ("import broken\n", ["broken.py"]),
        ("import nowhere\nfrom . import nothing\nfrom ... import more\n", []),
        ("def f(:\n", []),
    ],
)
def test_what_is_beside(source: str, found: list[str], tmp_path: Path) -> None:
    write(
        tmp_path,
        mine=source,
        one="x = 1\n",
        over="import one\n",
        circle="import mine\nimport circle\n",
        broken="def f(:\n",
    )
    part = "from . import other\nfrom .other import y\n"
    write(tmp_path / "pack", __init__="", part=part, other="y = 1\n")
    assert names(tmp_path) == found


def test_a_strategy_imports_what_is_beside_it_and_its_name_follows(tmp_path: Path) -> None:
    write(tmp_path, mine="from beside_mine import side\n" + CLASS)
    write(tmp_path, beside_mine="def side(tick): return 'BUY'\n")
    settings = Settings(strategy=f"{tmp_path}/mine.py:Mine")
    before = fingerprint(settings, "feed")
    assert load_strategy(settings.strategy).__name__ == "Mine"
    write(tmp_path, beside_mine="def side(tick): return 'SELL'\n")
    assert fingerprint(settings, "feed") != before


def test_a_file_beside_it_hides_no_installed_package(tmp_path: Path) -> None:
    write(tmp_path, mine="import json\nloads = json.loads\n" + CLASS, json="")
    load_strategy(f"{tmp_path}/mine.py:Mine")


def test_a_module_that_is_not_here_names_the_mend(tmp_path: Path) -> None:
    write(tmp_path, mine="import scipy_of_nobody.stats\n" + CLASS)
    with pytest.raises(
        StrategyError,
        match=r"No module named 'scipy_of_nobody': add it to data/strategies/requirements\.txt "
        r"\(STRATEGY_REQUIREMENTS\), then make setup or make up; or put "
        r"scipy_of_nobody\.py beside the strategy's file \(.*mine\.py:1\)",
    ):
        load_strategy(f"{tmp_path}/mine.py:Mine")
