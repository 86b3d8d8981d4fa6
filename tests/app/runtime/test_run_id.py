"""The name that keeps one deployment's orders apart from another's."""

from pathlib import Path

import pytest

from app.config import Settings
from app.runtime.lifecycle import FatalError
from app.runtime.run_id import resolve_run_id


def test_a_set_name_wins(tmp_path: Path):
    assert resolve_run_id(Settings(run_id="mine", run_dir=str(tmp_path))) == "mine"
    assert not any(tmp_path.iterdir())


def test_without_a_folder_all_runs_share_one_namespace():
    assert resolve_run_id(Settings()) == ""


def test_a_made_up_name_is_kept_across_restarts_and_new_in_a_new_folder(tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    name = resolve_run_id(Settings(run_dir=str(first)))
    assert name
    assert resolve_run_id(Settings(run_dir=str(first))) == name
    assert resolve_run_id(Settings(run_dir=str(second))) != name


def test_a_crash_before_the_name_was_written_leaves_room_for_one(tmp_path: Path):
    (tmp_path / "run_id").write_text("")
    (tmp_path / "run_id.new").write_text("half")
    name = resolve_run_id(Settings(run_dir=str(tmp_path)))
    assert name
    assert resolve_run_id(Settings(run_dir=str(tmp_path))) == name


def test_a_folder_that_cannot_be_written_is_refused_with_the_way_out(tmp_path: Path):
    with pytest.raises(FatalError, match=r"RUN_DIR=.*make it writable, or set RUN_ID"):
        resolve_run_id(Settings(run_dir=str(tmp_path / "missing")))
