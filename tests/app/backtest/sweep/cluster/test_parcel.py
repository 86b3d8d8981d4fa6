"""The strategy's files on their way: at the same paths there, and nowhere else."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.backtest.sweep.cell_run import source_digest
from app.backtest.sweep.cluster.parcel import Parcel, below, pack, strategy_below, unpack

NAME = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a strategy, a module beside it, and one that nobody imports."""
    folder = tmp_path / "own"
    (folder / "parts").mkdir(parents=True)
    (folder / "main.py").write_text("import helper\nfrom parts import one\n")
    (folder / "helper.py").write_text("import os\n")
    (folder / "parts/__init__.py").write_text("")
    (folder / "parts/one.py").write_text("A = 1\n")
    (folder / "stranger.py").write_text("")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("spec", ["main.py:A", "../own/main.py:A", "{own}/main.py:A"])
def test_a_file_and_what_it_imports_beside_it_arrive(own: Path, tmp_path: Path, spec: str) -> None:
    spec = spec.format(own=own)
    parcel = pack(spec)
    assert sorted(parcel.files) == [
        str(own / name) for name in ("helper.py", "main.py", "parts/__init__.py", "parts/one.py")
    ]
    digest = source_digest(spec)
    root = tmp_path / "root"
    root.mkdir()
    unpack(parcel, str(root))
    os.chdir(below(str(root), parcel.folder))
    there = strategy_below(str(root), spec)
    assert source_digest(there) == digest != source_digest("nothing.py:A")
    assert there.replace(str(root), "") == spec


def test_a_module_is_not_sent() -> None:
    parcel = pack("app.strategy.cross_check:CrossCheck")
    assert parcel.files == {}
    assert strategy_below("/root", "app.strategy.cross_check:CrossCheck") == (
        "app.strategy.cross_check:CrossCheck"
    )


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.py"):
        pack(f"{tmp_path}/gone.py:A")


@given(st.lists(NAME, min_size=1, max_size=5))
def test_a_path_is_below_the_root_or_refused(parts: list[str]) -> None:
    path = "/" + "/".join(parts)
    try:
        found = below("/root", path)
    except ValueError:
        assert {".", ".."} & set(parts) or "//" in path
        return
    assert os.path.normpath(found).startswith("/root/")


@pytest.mark.parametrize("path", ["a.py", "/../etc/passwd", "/a/../../b", "/a/."])
def test_a_path_that_would_leave_the_root_writes_nothing(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(ValueError, match="must be an absolute path"):
        unpack(Parcel({path: b"x"}, "/home"), str(root))
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []
