"""The tick ring between processes: policies, waiting, wrapping, takeover.

Registration is in ``test_ring_registration.py``.
"""

import os
import time

import numpy as np
import pytest

from app.kernel import _kernel
from app.model.tick import TICK_DTYPE
from app.shared_memory_utils.segment import SegmentError, SegmentForeign, SegmentMissing
from app.shared_memory_utils.tick_ring import LATEST, LOSSLESS, TickRing
from tests.support.children import SHM, Spawn, damage, eventually, open_files
from tests.support.kernel.ring_ends import READER, Writer, read

SECOND_NS = 10**9


class TestPolicies:
    def test_lossless_holds_the_writer_until_the_slowest_reader_advances(
        self, name: str, writer: Writer
    ) -> None:
        registered = [TickRing.attach(name) for _ in range(2)]
        fast, slow = (
            _kernel.TickReader(ring.buffer, ring.register(client, LOSSLESS).slot)
            for ring, client in zip(registered, "ab", strict=True)
        )
        assert writer.push(50) == 16
        assert read(fast) == list(range(1, 17))
        assert writer.push(50) == 0
        assert read(slow, 5) == [1, 2, 3, 4, 5]
        assert writer.kernel.wait_space(0)
        assert writer.push(50) == 5
        assert read(slow) == list(range(6, 17))
        assert read(slow) == list(range(17, 22))

    def test_two_policies_side_by_side(self, name: str, writer: Writer) -> None:
        ring = TickRing.attach(name)
        lossless = _kernel.TickReader(ring.buffer, ring.register("a", LOSSLESS).slot)
        latest = _kernel.TickReader(ring.buffer, ring.register("b", LATEST).slot)
        seen, out = [], np.zeros(16, TICK_DTYPE)
        for _ in range(10):
            assert writer.push(7) == 7
            seen += read(lossless) + read(lossless)
        assert seen == list(range(1, 71))
        taken: list[float] = []
        while count := latest.copy(out):
            taken += out["price"][:count].tolist()
            latest.advance(count)
        assert taken == list(range(int(taken[0]), 71))
        assert latest.lost == 70 - len(taken)
        assert writer.ring.view.reader(1)[2] == latest.lost > 0

    def test_a_record_has_its_receipt_time_and_symbol(self, name: str, writer: Writer) -> None:
        reader = _kernel.TickReader(writer.ring.buffer, writer.ring.register("a", LOSSLESS).slot)
        writer.push(3)
        ticks = np.zeros(4, TICK_DTYPE)
        assert reader.copy(ticks) == 3
        tick = ticks[2]
        assert (tick["symbol"], tick["seq"], tick["price"]) == (0, 2, 3.0)
        age_us = (time.monotonic_ns() // 1000 - int(tick["recv_us"])) % 2**32
        assert age_us < 10**6

    def test_records_are_read_only(self, writer: Writer) -> None:
        with pytest.raises(ValueError, match="read-only"):
            writer.ring.records["price"][0] = 1.0


class TestWaiting:
    def test_a_sleeping_reader_is_woken_by_a_tick(
        self, name: str, writer: Writer, spawn: Spawn
    ) -> None:
        child = spawn(READER, name, "alpha", LOSSLESS)
        child.line()
        for _ in range(3):
            assert child.ask(f"wait {20 * SECOND_NS}") == "waiting"
            eventually(lambda: writer.ring.buffer[132], "the reader sleeps")
            started = time.monotonic()
            writer.push(2)
            assert child.line() == "2"
            assert time.monotonic() - started < 5
            child.ask("take 2")

    def test_a_sleeping_reader_is_woken_by_the_end(
        self, name: str, writer: Writer, spawn: Spawn
    ) -> None:
        child = spawn(READER, name, "alpha", LOSSLESS)
        child.line()
        assert child.ask(f"wait {20 * SECOND_NS}") == "waiting"
        eventually(lambda: writer.ring.buffer[132], "the reader sleeps")
        writer.kernel.finish(0)
        assert child.line(5) == "0"
        assert child.ask(f"wait {20 * SECOND_NS}") == "waiting"
        assert child.line(5) == "0", "the run is over, so there is nothing to wait for"

    def test_a_sleeping_writer_is_woken_by_space_and_by_a_reader_that_leaves(
        self, name: str, spawn: Spawn
    ) -> None:
        child = spawn(
            """
            import sys
            from tests.support.kernel.ring_ends import Writer
            writer = Writer(sys.argv[1])
            print("up", flush=True)
            sys.stdin.readline()
            for _ in range(2):
                while writer.push(16):
                    pass
                print("full", flush=True)
                print(writer.kernel.wait_space(20 * 10**9), flush=True)
            """,
            name,
        )
        assert child.line() == "up"
        ring = TickRing.attach(name)
        registration = ring.register("alpha", LOSSLESS)
        reader = _kernel.TickReader(ring.buffer, registration.slot)
        assert child.ask() == "full"
        eventually(lambda: ring.buffer[196], "the writer sleeps")
        assert len(read(reader)) == 16
        assert child.line(5) == "True"
        assert child.line() == "full"
        eventually(lambda: ring.buffer[196], "the writer sleeps")
        ring.leave(registration.slot)
        assert child.line(5) == "True"

    def test_waiting_ends_at_the_timeout(self, writer: Writer) -> None:
        reader = _kernel.TickReader(writer.ring.buffer, writer.ring.register("a", LOSSLESS).slot)
        started = time.monotonic()
        assert reader.wait(30_000_000) == 0
        assert 0.03 <= time.monotonic() - started < 5
        assert reader.wait(0) == 0
        assert writer.push(16) == 16
        started = time.monotonic()
        assert not writer.kernel.wait_space(30_000_000)
        assert 0.03 <= time.monotonic() - started < 5
        assert reader.wait(20 * SECOND_NS) == 16


class TestTakeover:
    WRITER = """
        import sys
        from tests.support.kernel.ring_ends import Writer
        writer = Writer(sys.argv[1])
        print("up", flush=True)
        for line in sys.stdin:
            print(writer.push(int(line)), flush=True)
    """

    def test_readers_continue_with_the_successors_ticks(self, name: str, spawn: Spawn) -> None:
        child = spawn(self.WRITER, name)
        assert child.line() == "up"
        ring = TickRing.attach(name)
        reader = _kernel.TickReader(ring.buffer, ring.register("a", LOSSLESS).slot)
        assert child.ask("10") == "10"
        assert ring.writer_alive()
        child.kill()
        eventually(lambda: not ring.writer_alive(), "the dead writer's lock is free")
        successor = Writer(name)
        assert successor.ring.warm
        assert ring.is_current()
        assert successor.push(20) == 6, "a reader's position limits the successor too"
        assert read(reader) == list(range(1, 17))
        assert successor.kernel.state[:2] == (16, 16)
        successor.close()

    def test_two_writers(self, name: str, writer: Writer) -> None:
        with pytest.raises(SegmentError, match="another writer is alive"):
            TickRing.open_writer(name, 16, "lossless")

    @pytest.mark.parametrize(
        ("capacity", "policy", "fresh", "warm"),
        [
            (16, "lossless", False, True),
            (16, "lossless", True, False),
            (32, "lossless", False, False),
            (16, "latest", False, False),
        ],
    )
    def test_a_ring_is_taken_over_only_with_the_same_capacity_and_policy(
        self, name: str, capacity: int, policy: str, fresh: bool, warm: bool
    ) -> None:
        first = Writer(name)
        first.push(3)
        first.close()
        old = TickRing.attach(name)
        ring = TickRing.open_writer(name, capacity, policy, fresh)
        assert ring.warm == warm
        assert old.is_current() == warm
        assert ring.state.published == (3 if warm else 0)
        assert ring.view.policy == {"lossless": LOSSLESS, "latest": LATEST}[policy]
        for each in (ring, old):
            each.close()

    @pytest.mark.parametrize("capacity", [0, 1, 3, 1000])
    def test_a_capacity_must_be_a_power_of_two(self, name: str, capacity: int) -> None:
        with pytest.raises(ValueError, match="power of two"):
            TickRing.open_writer(name, capacity, "lossless")
        assert not (SHM / name).exists()


class TestUnusableSegments:
    def test_missing(self, name: str) -> None:
        with pytest.raises(SegmentMissing, match=name):
            TickRing.attach(name)

    def test_another_programs_segment_is_left_unchanged(self, name: str) -> None:
        (SHM / name).write_bytes(b"x" * 10000)
        before = open_files()
        with pytest.raises(SegmentForeign, match="not a tick ring"):
            TickRing.attach(name)
        with pytest.raises(SegmentForeign, match="not a tick ring"):
            TickRing.open_writer(name, 16, "lossless")
        assert (SHM / name).read_bytes() == b"x" * 10000
        assert open_files() == before

    def test_another_version_and_a_truncated_ring(self, name: str) -> None:
        Writer(name).close()
        damage(name, 8, "<I", 9)
        with pytest.raises(SegmentError, match="layout version 9, this program reads 3"):
            TickRing.attach(name)
        damage(name, 8, "<I", 3)
        os.truncate(SHM / name, 8192 + 32)
        with pytest.raises(SegmentError, match="truncated"):
            TickRing.attach(name)

    def test_a_full_file_system(self, name: str) -> None:
        room = os.statvfs(SHM)
        capacity = 1 << (room.f_blocks * room.f_frsize // 32).bit_length()
        with pytest.raises(SegmentError, match="raise shm_size"):
            TickRing.open_writer(name, capacity, "lossless")
        assert not list(SHM.glob(f"*{name}*"))

    def test_size(self, writer: Writer) -> None:
        assert writer.ring.nbytes == 8192 + 16 * 32
        assert writer.ring.capacity == 16
        assert writer.ring.heartbeat_age_s() >= 0
