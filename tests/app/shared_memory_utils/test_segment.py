"""Segments that are missing, foreign, damaged, too large or replaced, and their locks."""

import os
import signal

import pytest

from app.kernel import _kernel
from app.shared_memory_utils.metadata import SharedMemoryMetadata
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.segment import (
    Segment,
    SegmentDamaged,
    SegmentError,
    SegmentForeign,
    SegmentMissing,
)
from app.shared_memory_utils.tick_ring import TickRing
from tests.support.children import SHM, Spawn, damage, eventually, open_files

SYMBOLS = ["AAPL", "MSFT", "1234567890"]


class TestUnusableSegments:
    def test_missing(self, name: str) -> None:
        with pytest.raises(SegmentMissing, match=name):
            SharedPriceBook(name=name, create=False)
        with pytest.raises(SegmentMissing, match=name):
            SharedMemoryMetadata(name, create=False)

    def test_another_layout_version(self, name: str) -> None:
        SharedPriceBook(SYMBOLS, name).close()
        damage(name, 8, "<I", _kernel.LAYOUT_VERSION - 1)
        before = open_files()
        with pytest.raises(SegmentError, match="layout version 2, this program reads 3"):
            SharedPriceBook(name=name, create=False)
        assert open_files() == before
        with SharedPriceBook(SYMBOLS, name) as book:  # its writer is dead, so it is replaced
            assert not book.warm

    def test_another_layout_version_with_a_living_writer(self, name: str) -> None:
        with SharedPriceBook(SYMBOLS, name):
            damage(name, 8, "<I", _kernel.LAYOUT_VERSION + 1)
            with pytest.raises(SegmentError, match="another writer is alive"):
                SharedPriceBook(SYMBOLS, name)

    @pytest.mark.parametrize("offset", [24, 4096 + 64, 4096 + 128 + 95], ids=["boot", "A", "pad"])
    def test_a_damaged_header_of_a_book(self, name: str, offset: int) -> None:
        with SharedPriceBook(SYMBOLS, name) as book:
            book.check()
            damage(name, offset, "<B", (SHM / name).read_bytes()[offset] ^ 4)
            with pytest.raises(SegmentDamaged, match=f"{name}: the header .* is damaged"):
                book.check()
            with pytest.raises(SegmentDamaged, match=name):
                SharedPriceBook(name=name, create=False)
        with SharedPriceBook(SYMBOLS, name) as book:  # its writer is dead, so it is replaced
            assert not book.warm

    @pytest.mark.parametrize("offset", [24, 32], ids=["boot", "policy"])
    def test_a_damaged_header_of_a_ring(self, name: str, offset: int) -> None:
        ring = TickRing.open_writer(name, 16, "lossless")
        ring.check_header()
        damage(name, offset, "<B", (SHM / name).read_bytes()[offset] ^ 4)
        with pytest.raises(SegmentDamaged, match=f"{name}: the header of the tick ring is damaged"):
            ring.check_header()
        with pytest.raises(SegmentDamaged, match=name):
            TickRing.attach(name)
        ring.close()

    def test_a_damaged_price_in_a_book(self, name: str) -> None:
        with SharedPriceBook(SYMBOLS, name) as book:
            for price in (1.5, 2.5):
                book.update("MSFT", price)
            at = 4096 + 128 + 16 + 8
            for cell in (at, at + 24):
                damage(name, cell + 7, "<B", 0x41)
            for read in (lambda: book.read("MSFT"), lambda: book.read_tick("MSFT"), book.read_all):
                with pytest.raises(SegmentDamaged, match=f"{name}: .*seal of slot 1"):
                    read()
            with pytest.raises(SegmentDamaged, match=f"{name}: .*seal of slot 1"):
                book.check()
            assert book.read("AAPL") == 0.0

    def test_truncated(self, name: str) -> None:
        SharedPriceBook(SYMBOLS, name).close()
        os.truncate(SHM / name, 4096 + 128)
        with pytest.raises(SegmentError, match="truncated"):
            SharedPriceBook(name=name, create=False)

    @pytest.mark.parametrize("content", [b"x", b"x" * 4096, b"PRICBOOKx"])
    def test_another_programs_segment_is_left_unchanged(self, name: str, content: bytes) -> None:
        (SHM / name).write_bytes(content)
        before = open_files()
        for create in (True, False):
            with pytest.raises(SegmentForeign, match=name):
                SharedPriceBook(SYMBOLS, name, create=create)
        with pytest.raises(SegmentForeign, match=name):
            SharedMemoryMetadata(name)
        assert (SHM / name).read_bytes() == content
        assert open_files() == before

    def test_an_empty_file(self, name: str) -> None:
        (SHM / name).write_bytes(b"")
        with pytest.raises(SegmentError, match="empty"):
            SharedPriceBook(SYMBOLS, name)

    def test_a_symbolic_link_is_not_followed(self, name: str) -> None:
        SharedPriceBook(SYMBOLS, f"{name}_real").close()
        (SHM / name).symlink_to(SHM / f"{name}_real")
        with pytest.raises(SegmentError, match=name):
            SharedPriceBook(name=name, create=False)

    def test_other_symbols_than_requested(self, name: str) -> None:
        with SharedPriceBook(SYMBOLS, name):
            with pytest.raises(SegmentError, match="different symbols"):
                SharedPriceBook(["AAPL"], name, create=False)
            with SharedPriceBook(SYMBOLS, name, create=False) as view:
                assert view.get_symbols() == SYMBOLS

    def test_a_full_file_system(self, name: str) -> None:
        room = os.statvfs(SHM)
        size = room.f_blocks * room.f_frsize + 4096
        with pytest.raises(SegmentError, match=f"{name} of {size} bytes.*raise shm_size"):
            Segment.create(name, b"", size)
        assert not list(SHM.glob(f"*{name}*"))

    def test_the_file_system_fills_up_during_creation(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "posix_fallocate", full)
        before = open_files()
        with pytest.raises(SegmentError, match="No space left on device; free space in /dev/shm"):
            SharedPriceBook(SYMBOLS, name)
        assert not list(SHM.glob(f"*{name}*"))
        assert open_files() == before


READER = """
    import ctypes, sys
    from app.shared_memory_utils.metadata import SharedMemoryMetadata
    from app.shared_memory_utils.price_book import SharedPriceBook
    from app.shared_memory_utils.tick_ring import TickRing
    kind, name = sys.argv[1:]
    if kind == "book":
        memory = SharedPriceBook(name=name, create=False)
        place = memory.prices.ctypes.data + 8
    elif kind == "metadata":
        import numpy
        memory = SharedMemoryMetadata(name, create=False)
        place = numpy.frombuffer(memory.buffer, "u1").ctypes.data
    else:
        memory = TickRing.attach(name)
        place = memory.records.ctypes.data - (1 if kind == "ring header" else 0)
    print("attached", flush=True)
    ctypes.memset(place, 255, 1)
    print("written", flush=True)
"""


@pytest.mark.parametrize("kind", ["book", "metadata", "ring records", "ring header"])
def test_a_reader_cannot_write_what_it_only_reads(name: str, spawn: Spawn, kind: str) -> None:
    """Not even with a stray pointer."""
    with (
        SharedPriceBook(SYMBOLS, f"{name}_book"),
        SharedMemoryMetadata(f"{name}_metadata"),
        TickRing.open_writer(f"{name}_ring", 16, "lossless"),
    ):
        segment = f"{name}_{kind.split()[0]}"
        before = (SHM / segment).read_bytes()
        child = spawn(READER, kind, segment)
        assert child.line() == "attached"
        if kind == "ring header":  # the place of readers' slots
            assert child.line() == "written"
        else:
            assert child.process.wait(10) == -signal.SIGSEGV
            assert (SHM / segment).read_bytes() == before


def test_a_readers_book_refuses_to_write(name: str) -> None:
    with SharedPriceBook(SYMBOLS, name), SharedPriceBook(name=name, create=False) as view:
        for write in (view.heartbeat, view.count_gap, lambda: view.update("AAPL", 1.0)):
            with pytest.raises(SegmentError, match="attached for reading"):
                write()
        with pytest.raises(TypeError, match="mapped for reading"):
            _kernel.BookView(view.buffer).heartbeat()
        with pytest.raises(TypeError, match="mapped for reading"):
            _kernel.BookView(view.buffer).put(0, 1.0)


def test_a_replaced_segment_is_detected(name: str) -> None:
    first = Segment.create(name, b"first")
    assert first.is_current()
    os.unlink(SHM / name)
    assert not first.is_current()
    second = Segment.create(name, b"second")
    assert not first.is_current()
    first.unlink()
    assert second.is_current()
    with pytest.raises(FileExistsError):
        Segment.create(name, b"third")
    for segment in (first, second):
        segment.close()


def test_a_segment_moves_to_another_under_its_views(name: str) -> None:
    first = Segment.create(name, b"first", 4096)
    view = first.buf[:5]
    os.unlink(SHM / name)
    other = Segment.create(name, b"other", 4096)
    assert other.try_lock(3)
    before = open_files()
    first.move_to(other)
    assert bytes(view) == b"other"
    view[:] = b"third"
    assert (SHM / name).read_bytes()[:5] == b"third"
    assert first.is_current()
    assert open_files() < before
    asking = Segment.attach(name)
    assert asking.is_locked(3)
    view.release()
    first.close()
    assert not asking.is_locked(3)
    asking.close()


def test_locks_end_with_their_holder(name: str, spawn: Spawn) -> None:
    segment = Segment.create(name, b"x")
    child = spawn(
        """
        import sys
        from app.shared_memory_utils.segment import Segment
        print(Segment.attach(sys.argv[1]).try_lock(5), flush=True)
        segment = Segment.attach(sys.argv[1])
        print(segment.try_lock(6), flush=True)
        sys.stdin.readline()
        """,
        name,
    )
    assert (child.line(), child.line()) == ("True", "True")
    assert segment.is_locked(6)
    assert not segment.try_lock(6)
    assert segment.try_lock(7)
    child.kill()
    eventually(lambda: not segment.is_locked(6), "the dead child's lock is free")
    assert segment.try_lock(6)
    segment.close()
