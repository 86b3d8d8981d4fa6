"""A save is noticed however an editor writes, and only when the file is whole."""

import os
import threading
import time
from pathlib import Path

import pytest

from app.backtest.watch.files import SETTLE_S, Watched


def write(path: Path, text: str) -> None:
    path.write_text(text)


def rename_over(path: Path, text: str) -> None:
    """As vim: never half-written; here even with the time and size of the old file."""
    before = path.stat()
    new = path.with_name("4913")
    new.write_text(text)
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(new, path)


def move_away(path: Path, text: str) -> None:
    """As editors that keep a backup: for a moment there is no file."""
    path.rename(path.with_name("backup~"))
    path.write_text(text)


@pytest.mark.parametrize("save", [write, rename_over, move_away])
def test_each_way_to_save(save: object, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("one")
    watched = Watched()
    watched.take([path])
    assert watched.changed() == []
    time.sleep(0.02)  # The clock of files moves in steps.
    save(path, "two")  # type: ignore[operator]
    assert watched.wait() == [path]
    watched.take([path])
    assert watched.changed() == []


def test_a_file_is_waited_for_until_it_stands_still_and_is_there(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("")
    watched = Watched()
    watched.take([path])
    last_s = 0.0

    def save_slowly() -> None:
        nonlocal last_s
        path.unlink()
        time.sleep(5 * SETTLE_S)
        for length in range(1, 30):
            path.write_text("x" * length)
            last_s = time.monotonic()
            time.sleep(SETTLE_S / 8)

    writer = threading.Thread(target=save_slowly)
    writer.start()
    watched.wait()
    ended_s = time.monotonic()
    writer.join()
    # On a busy machine the writer itself may pause for longer than a save does.
    assert path.exists()
    assert ended_s > last_s or path.stat().st_size > 1


def test_a_file_that_is_removed_is_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.backtest.watch.files.ABSENT_S", 0.0)
    path = tmp_path / "mine.py"
    path.write_text("one")
    watched = Watched()
    watched.take([path])
    path.unlink()
    assert watched.wait() == [path]


def test_a_file_that_was_saved_after_the_run_began_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "helper.py"
    path.write_text("one")
    written_ns = path.stat().st_mtime_ns
    early, late = Watched(), Watched()
    early.add([path], since_ns=written_ns + 1)
    late.add([path], since_ns=written_ns)
    assert early.changed() == []
    assert late.changed() == [path]
