"""Registration in the tick ring: names, slots, positions, eviction."""

import pytest

from app.kernel import _kernel
from app.shared_memory_utils.segment import SegmentError
from app.shared_memory_utils.tick_ring import LATEST, LOSSLESS
from tests.support.children import Spawn, eventually
from tests.support.kernel.ring_ends import READER, Writer


class TestRegistration:
    def test_a_name_in_use_gets_a_number_and_a_dead_readers_name_its_position(
        self, name: str, writer: Writer, spawn: Spawn
    ) -> None:
        first, second = (spawn(READER, name, "alpha", LOSSLESS) for _ in range(2))
        mine, other = first.line(), second.line()
        assert sorted([mine, other]) == ["alpha False 0", "alpha-2 False 0"]
        writer.push(10)
        assert first.ask("take 4") == "1 2 3 4"
        first.kill()
        third = spawn(READER, name, "alpha", LOSSLESS)
        assert third.line() == mine.replace("False 0", "True 4")
        assert third.ask("take 3") == "5 6 7"

    def test_two_registrations_in_one_process_are_two_readers(self, writer: Writer) -> None:
        one, two = (writer.ring.register("alpha", LOSSLESS) for _ in range(2))
        assert (one.name, two.name) == ("alpha", "alpha-2")
        assert one.slot != two.slot

    def test_a_number_chooses_the_name_whatever_the_order(self, writer: Writer) -> None:
        names = [writer.ring.register("alpha", LOSSLESS, number).name for number in (3, 1, 2)]
        assert names == ["alpha-3", "alpha", "alpha-2"]
        assert writer.ring.register("alpha", LOSSLESS, 70).name == "alpha-70"

    def test_a_number_returns_to_its_own_position(
        self, name: str, writer: Writer, spawn: Spawn
    ) -> None:
        first, second = (spawn(READER, name, "alpha", LOSSLESS) for _ in range(2))
        assert sorted((first.line(), second.line())) == ["alpha False 0", "alpha-2 False 0"]
        first.kill()
        second.kill()
        for number, wanted in ((2, "alpha-2"), (1, "alpha")):
            found = writer.ring.register("alpha", LOSSLESS, number)
            assert (found.name, found.returning) == (wanted, True)

    def test_a_number_that_is_in_use_is_not_shared(self, writer: Writer) -> None:
        names = [writer.ring.register("alpha", LOSSLESS, 2).name for _ in range(3)]
        assert names == ["alpha-2", "alpha", "alpha-3"]

    def test_a_reader_that_leaves_is_forgotten(
        self, name: str, writer: Writer, spawn: Spawn
    ) -> None:
        child = spawn(READER, name, "alpha", LOSSLESS)
        assert child.line() == "alpha False 0"
        writer.push(10)
        assert child.ask("leave 0") == "left"
        assert writer.kernel.lag() == 0
        assert writer.push(20) == 20
        registration = writer.ring.register("alpha", LOSSLESS)
        assert not registration.returning
        assert writer.ring.view.reader(registration.slot) == (LOSSLESS, 30, 0, "alpha")

    @pytest.mark.parametrize(("published", "starts_at"), [(0, 0), (8, 0), (9, 9), (40, 40)])
    def test_a_new_name_starts_at_tick_0_or_at_the_next_tick(
        self, writer: Writer, published: int, starts_at: int
    ) -> None:
        assert writer.push(published) == published
        registration = writer.ring.register("alpha", LOSSLESS)
        assert writer.ring.view.reader(registration.slot)[1] == starts_at

    def test_another_policy_does_not_resume_at_the_old_position(
        self, name: str, writer: Writer, spawn: Spawn
    ) -> None:
        child = spawn(READER, name, "alpha", LATEST)
        assert child.line() == "alpha False 0"
        child.kill()
        assert writer.push(100) == 100
        registration = writer.ring.register("alpha", LOSSLESS)
        assert registration.returning
        assert writer.ring.view.reader(registration.slot)[:2] == (LOSSLESS, 100)

    def test_the_longest_client_names_stay_distinct(self, writer: Writer) -> None:
        names = [writer.ring.register("x" * 32, LOSSLESS).name for _ in range(12)]
        assert names == ["x" * 32, *(f"{'x' * 32}-{n}" for n in range(2, 13))]
        stored = [writer.ring.view.reader(slot)[3] for slot in range(12)]
        assert stored == names

    def test_all_slots_taken(self, writer: Writer) -> None:
        for _ in range(_kernel.MAX_READERS):
            writer.ring.register("alpha", LATEST)
        with pytest.raises(SegmentError, match="all reader slots are taken"):
            writer.ring.register("beta", LATEST)

    def test_only_dead_readers_are_evicted_and_only_after_the_grace_period(
        self, name: str, writer: Writer, spawn: Spawn
    ) -> None:
        dead, stopped, alive = (spawn(READER, name, client, LOSSLESS) for client in "abc")
        for child in (dead, stopped, alive):
            child.line()
        stopped.process.send_signal(19)  # SIGSTOP
        dead.kill()
        eventually(
            lambda: not writer.ring._segment.is_locked(2 + self.slot_of(writer, "a")),
            "the dead reader's lock is free",
        )
        assert writer.push(20) == 16
        assert writer.ring.evict_dead(grace_s=1000) == []
        assert writer.ring.evict_dead(grace_s=0) == ["a"]
        assert writer.ring.evict_dead(grace_s=0) == []
        assert writer.push(20) == 0, "the others still hold the writer"
        assert alive.ask("take 16").split()[0] == "1"

    @staticmethod
    def slot_of(writer: Writer, client: str) -> int:
        names = [writer.ring.view.reader(slot)[3] for slot in range(_kernel.MAX_READERS)]
        return names.index(client)

    def test_a_reader_that_returns_within_the_grace_period_is_not_evicted_later(
        self, name: str, writer: Writer, spawn: Spawn
    ) -> None:
        child = spawn(READER, name, "alpha", LOSSLESS)
        child.line()
        child.kill()
        eventually(lambda: not writer.ring._segment.is_locked(2), "the lock is free")
        assert writer.ring.evict_dead(grace_s=1000) == []
        again = spawn(READER, name, "alpha", LOSSLESS)
        assert again.line() == "alpha True 0"
        assert writer.ring.evict_dead(grace_s=0) == []
