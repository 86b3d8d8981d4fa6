"""Names of segments that belong to somebody else: left alone, and named in the error."""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.config.settings import Settings
from app.runtime.container.health import Unhealthy, check_heartbeat
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.run.stack_segments import remove_leftovers, remove_segments
from app.shared_memory_utils.metadata import SharedMemoryMetadata
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.segment import SegmentError, SegmentForeign
from app.shared_memory_utils.tick_ring import TickRing
from tests.chaos.host import HostStack
from tests.support.children import SHM, open_files

KINDS = ("price_book", "metadata", "tick_ring", "metrics")
Plant = Callable[[Path], object]


def folder(path: Path) -> None:
    path.mkdir()
    (path / "theirs").write_text("kept")


def link(path: Path) -> None:
    path.symlink_to("/dev/null")


THINGS: dict[str, Plant] = {
    "folder": folder,
    "link": link,
    "pipe": os.mkfifo,
    "file": lambda path: path.write_bytes(b"theirs" * 1000),
    "file of the metadata's size": lambda path: path.write_bytes(b"theirs!!" * 129),
    "empty file": lambda path: path.touch(),
}


@pytest.fixture
def settings() -> Iterator[Settings]:
    names = {f"shm_{kind}": f"test_{secrets.token_hex(4)}_{kind}" for kind in KINDS}
    yield Settings(**names)  # type: ignore[arg-type]
    for name in names.values():
        path = SHM / name
        if path.is_dir() and not path.is_symlink():
            (path / "theirs").unlink()
            path.rmdir()
        path.unlink(missing_ok=True)


def create(settings: Settings, kind: str) -> None:
    """As the stack's processes do."""
    name = getattr(settings, f"shm_{kind}")
    if kind == "price_book":
        SharedPriceBook(["A"], name).close()
    elif kind == "metadata":
        SharedMemoryMetadata(name).close()
    elif kind == "tick_ring":
        TickRing.open_writer(name, 16, "lossless").close()
    else:
        ProcessMetrics.open(name, "gateway").close()


def look(path: Path) -> tuple[object, ...]:
    """What must not change."""
    found = path.lstat()
    content = (
        path.read_bytes() if path.is_file() else sorted(os.listdir(path) if path.is_dir() else [])
    )
    return found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, content


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_left_alone_and_named(settings: Settings, kind: str, thing: str) -> None:
    name = getattr(settings, f"shm_{kind}")
    THINGS[thing](SHM / name)
    before, files = look(SHM / name), open_files()
    with pytest.raises(SegmentError, match=f"{name}.*remove"):
        remove_leftovers(settings)
    remove_segments(settings)
    with pytest.raises((SegmentError, MetricsError), match=f"{name}.*remove"):
        create(settings, kind)
    if kind == "metrics":
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SHM_METRICS", name)
            with pytest.raises(Unhealthy):
                check_heartbeat("strategy")
    assert look(SHM / name) == before
    assert open_files() == files


@pytest.mark.parametrize("kind", KINDS)
def test_our_own_are_removed(settings: Settings, kind: str) -> None:
    create(settings, kind)
    remove_leftovers(settings)
    assert not (SHM / getattr(settings, f"shm_{kind}")).exists()


def test_a_reader_does_not_wait_for_a_pipe(settings: Settings) -> None:
    os.mkfifo(SHM / settings.shm_price_book)
    with pytest.raises(SegmentForeign, match="special file, left alone"):
        SharedPriceBook(name=settings.shm_price_book, create=False)


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["ring", "metrics"])
def test_a_run_says_so_and_ends(tmp_path: Path, kind: str) -> None:
    stack = HostStack(tmp_path)
    path = SHM / stack.segment(kind)
    path.write_bytes(b"theirs" * 1000)
    try:
        with stack:
            assert stack.wait(20) == 1
            assert path.name in stack.tail(1)
            assert "left alone" in stack.tail(1)
            assert path.read_bytes() == b"theirs" * 1000
    finally:
        path.unlink(missing_ok=True)
