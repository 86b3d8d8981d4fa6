"""Columns in memory and in files: the same values; what happens where there is no room."""

import errno
import gc
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.market_data.storage import columns, place, resident
from app.market_data.storage.columns import Table
from app.market_data.storage.place import NoRoom, Storage

QUIET = [HealthCheck.function_scoped_fixture]
SHARED_MEMORY = Path("/dev/shm")


def small(folder: Path, memory_bytes_max: int = 0) -> Storage:
    return Storage(memory_bytes_max, str(folder), free_bytes_min=0)


@settings(deadline=None, suppress_health_check=QUIET)
@given(
    st.lists(st.lists(st.integers(0, 99), max_size=9), max_size=9),
    st.integers(0, 200),
    st.integers(1, 5),
)
def test_values_are_those_that_were_added(
    tmp_path: Path, parts: list[list[int]], memory_bytes_max: int, step: int
) -> None:
    """Also where the table leaves memory in between, and after a change of every value."""
    table = Table(small(tmp_path, memory_bytes_max))
    one, other = table.column(np.int64), table.column(np.int16)
    for part in parts:
        one.append(np.array(part, np.int64))
        other.append(np.array(part, np.int64))
    late = table.column(np.bool_)
    late.append(np.array([True]))
    flat = [value for part in parts for value in part]
    assert table.size_bytes == 10 * len(flat) + 1
    assert table.on_disk == (table.size_bytes > memory_bytes_max)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "REWRITE_BYTES", 8 * step)
        one.rewrite(lambda values: values + 1)
    assert one.array().tolist() == [value + 1 for value in flat]
    assert other.array().tolist() == flat
    assert late.array().tolist() == [True]
    assert not list(tmp_path.iterdir()), "the files have no names"


def test_a_file_goes_with_its_last_reader(tmp_path: Path) -> None:
    def deleted() -> int:
        return Path("/proc/self/maps").read_text().count("(deleted)")

    gc.collect()  # what other tests have left
    before = len(os.listdir("/proc/self/fd")), deleted()
    column = Table(small(tmp_path)).column(np.uint8)
    column.append(np.ones(1 << 20, np.uint8))
    array = column.array()
    assert deleted() == before[1] + 1
    del array, column
    gc.collect()
    assert (len(os.listdir("/proc/self/fd")), deleted()) == before


def test_nobody_else_finds_or_reads_it(tmp_path: Path) -> None:
    column = Table(small(tmp_path)).column(np.int64)
    column.append(np.arange(5))
    assert not list(tmp_path.iterdir())
    modes = [
        entry.stat().st_mode & 0o777
        for entry in Path("/proc/self/fd").iterdir()
        if entry.is_symlink() and str(entry.readlink()).startswith(str(tmp_path))
    ]
    assert modes == [0o600]


def test_values_in_a_file_cannot_be_changed(tmp_path: Path) -> None:
    column = Table(small(tmp_path)).column(np.int64)
    column.append(np.arange(5))
    array = column.array()
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    table = Table(small(tmp_path))
    column = table.column(np.int64)
    column.append(np.arange(5))

    def full(*_args: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(NoRoom, match=rf"{tmp_path}: no room for 0 MB .* set DATA_SPILL_DIR"):
        column.append(np.arange(5))
    with pytest.raises(NoRoom):
        column.rewrite(lambda values: values)


def test_another_error_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    column = Table(small(tmp_path)).column(np.int64)
    column.append(np.arange(5))

    def broken(*_args: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pwrite", broken)
    with pytest.raises(OSError, match="Input/output error"):
        column.append(np.arange(5))


def test_room_for_others_stays_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order store may be on the same disk."""
    free_bytes = [10 << 20]
    for module in (columns, place):
        monkeypatch.setattr(module, "free_bytes_of", lambda _folder: free_bytes[0])
    table = Table(Storage(0, str(tmp_path), free_bytes_min=5 << 20))
    column = table.column(np.uint8)
    column.append(np.zeros(columns.CHECK_EVERY_BYTES, np.uint8))
    free_bytes[0] = 4 << 20
    for _ in range(15):
        column.append(np.zeros(columns.CHECK_EVERY_BYTES >> 4, np.uint8))
    with pytest.raises(NoRoom, match=r"for 32 MB .* 4 MB are free, of which 5 MB are kept"):
        column.append(np.zeros(columns.CHECK_EVERY_BYTES >> 4, np.uint8))


class TestPlace:
    def test_the_folder_that_is_set(self, tmp_path: Path) -> None:
        folder = tmp_path / "a" / "b"
        assert Storage(folder=str(folder), usual=("/",), free_bytes_min=0).place() == folder
        assert folder.is_dir()

    def test_the_first_usual_one_on_a_disk(self, tmp_path: Path) -> None:
        if place.is_memory(tmp_path):
            pytest.skip("the folder for temporary files is memory")
        file = tmp_path / "file"
        file.touch()
        usual = ("", str(file), str(SHARED_MEMORY), str(tmp_path), str(tmp_path / "later"))
        assert Storage(usual=usual, free_bytes_min=0).place() == tmp_path

    def test_there_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(SHARED_MEMORY))
        file = tmp_path / "file"
        file.touch()
        with pytest.raises(NoRoom) as caught:
            Storage(7, usual=(str(file),), free_bytes_min=0).place()
        text = str(caught.value)
        assert "\n" not in text
        assert f"{file}: File exists" in text
        assert f"{SHARED_MEMORY}: is memory, not a disk" in text
        for setting in (
            "DATA_MEMORY_BYTES_MAX=7",
            "set DATA_SPILL_DIR",
            "or DATA_MEMORY_BYTES_MAX",
        ):
            assert setting in text
        assert Storage(folder=str(SHARED_MEMORY), free_bytes_min=0).place() == SHARED_MEMORY

    def test_a_disk_that_is_nearly_full(self, tmp_path: Path) -> None:
        with pytest.raises(NoRoom, match="MB are free"):
            Storage(folder=str(tmp_path), free_bytes_min=1 << 62).place()


def test_pages_are_dropped_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "RESIDENT_BYTES_MAX", 4 << 20)
    size = 32 << 20
    column = Table(small(tmp_path)).column(np.uint8)
    column.append(np.arange(size, dtype=np.uint64).astype(np.uint8))
    array = column.array()
    drops, step = resident.RESIDENT.drops, 1 << 20
    for _ in range(2):
        total = 0
        for at in range(0, size, step):
            total += int(array[at : at + step].sum())
            resident.RESIDENT.look()
        assert total == size // 256 * sum(range(256))
    assert resident.RESIDENT.drops - drops >= 2 * (size // (6 << 20))
