"""Price book and ring; each test runs on the compiled and on the plain kernel."""

import errno
import socket
import struct
import time
from typing import Any

import numpy as np
import pytest

from app.kernel import _kernel
from app.model.tick import TICK_DTYPE
from app.runtime.metrics.layout import BUCKET_SLOTS
from tests.support.kernel.helpers import (
    BOTH,
    LATEST,
    LOSSLESS,
    SYMBOLS,
    book_image,
    feed,
    padded,
    refused,
    ring_image,
)


@BOTH
def kernel(request: pytest.FixtureRequest) -> Any:
    return request.param


class TestBook:
    """Slots: the spare cell is written, then the stamp makes it the live one."""

    def test_reads_what_was_written(self, kernel: Any) -> None:
        book = kernel.BookView(book_image(SYMBOLS))
        assert book.get(1) is None
        book.put(1, 1.5, 10, 20, 7)
        assert book.get(1) == (1.5, 10, 20, 7)
        book.put(1, 2.5, 11, 21)
        assert book.get(1) == (2.5, 11, 21, 8)
        assert book.get(0) is None

    def test_the_first_tick_of_a_run_counts(self, kernel: Any) -> None:
        book = kernel.BookView(book_image(SYMBOLS))
        book.put(0, 1.5, 10, 20, 0)
        assert book.get(0) == (1.5, 10, 20, 0)

    def test_an_older_or_equal_sequence_changes_nothing(self, kernel: Any) -> None:
        image = book_image(SYMBOLS)
        book = kernel.BookView(image)
        book.put(0, 1.5, 10, 20, 7)
        before = bytes(image)
        book.put(0, 9.5, 1, 1, 7)
        book.put(0, 9.5, 1, 1, 6)
        assert bytes(image) == before

    @pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf"), 9e9 + 1])
    def test_an_invalid_price_is_refused(self, kernel: Any, price: float) -> None:
        book = kernel.BookView(book_image(SYMBOLS))
        with refused():
            book.put(0, price)
        assert book.get(0) is None

    @pytest.mark.parametrize("index", [-1, len(SYMBOLS)])
    def test_an_invalid_slot_is_refused(self, kernel: Any, index: int) -> None:
        book = kernel.BookView(book_image(SYMBOLS))
        with pytest.raises(IndexError):
            book.put(index, 1.0)
        with pytest.raises(IndexError):
            book.get(index)

    def test_the_last_tick_survives_a_writer_that_dies_in_mid_write(self, kernel: Any) -> None:
        image = book_image(SYMBOLS)
        book = kernel.BookView(image)
        book.put(0, 1.5, 10, 20, 7)
        live = image[4096] & 1
        spare_at = 4096 + 16 + 24 * (1 - live)
        image[spare_at : spare_at + 24] = b"\xff" * 24
        assert book.get(0) == (1.5, 10, 20, 7)
        book.put(0, 2.5, 11, 21, 8)
        assert book.get(0) == (2.5, 11, 21, 8)

    def test_repair_copies_the_cells_price_to_the_plain_price(self, kernel: Any) -> None:
        image = book_image(SYMBOLS)
        book = kernel.BookView(image)
        book.put(0, 1.5)
        image[4096 + 8 : 4096 + 16] = bytes(8)
        book.repair()
        assert np.frombuffer(image, "f8", 1, 4096 + 8)[0] == 1.5

    @pytest.mark.parametrize("size", [1, 4095, 4096, 4096 + 128 * len(SYMBOLS) - 1])
    def test_a_short_segment_is_refused(self, kernel: Any, size: int) -> None:
        with refused():
            kernel.BookView(book_image(SYMBOLS)[:size])


class Ring:
    """A ring of ``capacity`` with its writer, in plain memory."""

    def __init__(self, kernel: Any, capacity: int) -> None:
        self.kernel, self.bytes, self.book = kernel, ring_image(capacity), book_image(SYMBOLS)
        self.writer = kernel.TickWriter(self.bytes, self.book, kernel.FieldParser(SYMBOLS))

    def push(self, data: bytes) -> tuple[int, int, int]:
        answer: tuple[int, int, int] = self.writer.push(padded(data), 0, len(data), 5000)
        return answer

    def reader(self, slot: int = 0, policy: int = LOSSLESS, cursor: int = 0) -> Any:
        self.writer.set_reader(slot, policy, cursor, f"r{slot}")
        return self.kernel.TickReader(self.bytes, slot)

    def prices(self, reader: Any) -> list[float]:
        """Prices of all unread ticks, which are consumed."""
        ticks = np.zeros(1000, TICK_DTYPE)
        taken: list[float] = []
        while reader.wait(0):
            count = reader.copy(ticks)
            taken += ticks["price"][:count].tolist()
            reader.advance(count)
        return taken


class TestRing:
    """Writer and readers of one ring."""

    def test_every_tick_arrives_once_and_in_order_across_wraps(self, kernel: Any) -> None:
        ring = Ring(kernel, 8)
        reader = ring.reader()
        sent, seen = [float(i + 1) for i in range(50)], []
        for i in range(0, 50, 5):
            assert ring.push(feed(*sent[i : i + 5]))[0] == 5
            seen += ring.prices(reader)
        assert seen == sent
        assert ring.writer.state[:3] == (50, 50, None)

    def test_lossless_stops_at_the_slowest_reader(self, kernel: Any) -> None:
        ring = Ring(kernel, 8)
        fast, slow = ring.reader(0), ring.reader(1)
        data = feed(*range(1, 13))
        count, position, stop = ring.push(data)
        assert (count, stop) == (8, kernel.FULL)
        assert ring.prices(fast) == [1, 2, 3, 4, 5, 6, 7, 8]
        assert not ring.writer.wait_space(0)
        assert ring.writer.lag() == 8
        slow.advance(3)
        assert ring.writer.wait_space(0)
        count, more, stop = ring.push(data[position:])
        assert (count, stop) == (3, kernel.FULL)
        assert ring.prices(slow) == [4, 5, 6, 7, 8, 9, 10, 11]
        assert ring.writer.wait_space(0)
        assert ring.push(data[position + more :])[0] == 1
        assert ring.prices(slow) == [12]
        assert ring.prices(fast) == [9, 10, 11, 12]

    def test_latest_skips_and_counts_lost_ticks(self, kernel: Any) -> None:
        ring = Ring(kernel, 8)
        reader = ring.reader(policy=LATEST)
        assert ring.push(feed(*range(1, 31)))[::2] == (30, kernel.NEED_MORE)
        out = np.zeros(8, TICK_DTYPE)
        count = reader.copy(out)
        assert out["seq"][:count].tolist() == out["price"][:count].astype(int).__sub__(1).tolist()
        assert reader.lost == reader.position
        assert reader.position + count <= 30
        assert reader.position >= 30 - 8
        reader.advance(count)
        while count := reader.copy(out):
            assert out["seq"][0] == reader.position
            reader.advance(count)
        assert reader.position == 30
        assert ring.writer.reader(0) == (LATEST, 30, reader.lost, "r0")

    def test_a_latest_reader_does_not_hold_the_writer(self, kernel: Any) -> None:
        ring = Ring(kernel, 8)
        ring.reader(policy=LATEST)
        assert ring.push(feed(*range(1, 40)))[0] == 39
        assert ring.writer.lag() == 0

    def test_tick_0_stays_for_a_new_reader_while_half_the_ring_is_free(self, kernel: Any) -> None:
        ring = Ring(kernel, 8)
        assert ring.push(feed(1, 2, 3, 4))[0] == 4
        # A successor has computed no limit yet; when it does, the new reader has not registered.
        ring.writer = kernel.TickWriter(ring.bytes, ring.book, kernel.FieldParser(SYMBOLS))
        assert ring.push(b"")[0] == 0
        reader = ring.reader()
        assert ring.push(feed(*range(5, 20)))[0] == 4
        assert ring.prices(reader) == [1, 2, 3, 4, 5, 6, 7, 8]

    def test_the_source_sequence_can_skip(self, kernel: Any) -> None:
        ring = Ring(kernel, 8)
        reader = ring.reader()
        assert reader.next_seq() == 0
        ring.push(feed(1))
        ring.writer.set_next_seq(5)
        ring.push(feed(2))
        assert reader.next_seq() == 0
        reader.advance(1)
        assert reader.next_seq() == 5
        reader.advance(1)
        assert reader.next_seq() == 6

    def test_a_successor_continues_after_the_last_tick(self, kernel: Any) -> None:
        ring = Ring(kernel, 8)
        ring.push(feed(1, 2, 3))
        ring.bytes[80:88] = bytes(8)  # killed after publishing, before storing next_seq
        ring.writer = kernel.TickWriter(ring.bytes, ring.book, kernel.FieldParser(SYMBOLS))
        assert ring.writer.state[:2] == (3, 3)

    def test_a_successor_never_lowers_claimed(self, kernel: Any) -> None:
        ring = Ring(kernel, 64)
        reader = ring.reader(policy=LATEST)
        ring.push(feed(*range(1, 61)))
        ring.bytes[72:80] = (64 + 20).to_bytes(8, "little")  # killed after claiming more
        ring.writer = kernel.TickWriter(ring.bytes, ring.book, kernel.FieldParser(SYMBOLS))
        ring.push(feed(61))
        out = np.zeros(64, TICK_DTYPE)
        reader.copy(out)
        assert reader.position >= 20

    def test_the_end_of_the_run_is_published_and_stays(self, kernel: Any) -> None:
        ring = Ring(kernel, 8)
        ring.writer.finish(0)
        assert ring.writer.state[2] == 0
        ring.reader().wait(10**12)  # returns at once: the run is over

    def test_stops_at_a_malformed_tick_after_writing_those_before_it(self, kernel: Any) -> None:
        ring = Ring(kernel, 8)
        reader = ring.reader()
        good = feed(1, 2)
        head = good + b"2025-10-01 09:30:00*A*"
        assert ring.push(head + b"-1*") == (2, len(head), kernel.BAD_PRICE)
        assert ring.prices(reader) == [1, 2]
        assert kernel.BookView(ring.book).get(0)[0] == 2.0

    def test_names_have_up_to_40_bytes_and_a_new_name_resets_the_loss(self, kernel: Any) -> None:
        ring = Ring(kernel, 8)
        reader = ring.reader(policy=LATEST)
        ring.push(feed(*range(1, 31)))
        reader.copy(np.zeros(8, TICK_DTYPE))
        assert ring.writer.reader(0)[2] > 0
        ring.writer.set_reader(0, LOSSLESS, 30, "n" * 40)
        assert ring.writer.reader(0) == (LOSSLESS, 30, 0, "n" * 40)
        for name in ("", "n" * 41):
            with refused():
                ring.writer.set_reader(0, LOSSLESS, 30, name)
        for slot in (-1, 63):
            with pytest.raises(IndexError):
                ring.writer.reader(slot)

    @pytest.mark.parametrize("capacity", [0, 1, 3, 2**59, 2**63])
    def test_an_invalid_capacity_is_refused(self, kernel: Any, capacity: int) -> None:
        image = ring_image(8)
        image[16:24] = capacity.to_bytes(8, "little")
        with refused():
            kernel.RingView(image)

    @pytest.mark.parametrize("size", [1, 8191, 8192, 8192 + 8 * 32 - 1])
    def test_a_short_segment_is_refused(self, kernel: Any, size: int) -> None:
        with refused():
            kernel.RingView(ring_image(8)[:size])


class Link:
    """A socket into a writer; ``push`` is the reference."""

    def __init__(self, kernel: Any, capacity: int = 64) -> None:
        self.ring = Ring(kernel, capacity)
        self.near, self.far = socket.socketpair()
        self.far.settimeout(5)
        self.near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 1000))
        self.buffer, self.position, self.fill = padded(bytes(600)), 0, 0
        self.buckets = np.zeros(BUCKET_SLOTS, np.uint64)

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *_error: object) -> None:
        self.near.close()
        self.far.close()

    def receive(self, piece_bytes: int = 500, wait_s: float = 0.0) -> tuple[int, ...]:
        """Received, ticks, stop, pieces; the rest stays in ``buffer[position:fill]``.

        Without ``wait_s`` the call ends after the first piece.
        """
        begin_ns, counted = time.monotonic_ns(), int(self.buckets.sum())
        until_ns = begin_ns + int(wait_s * 1e9)
        received, ticks, self.position, self.fill, stop, first_ns, recv_ns, pieces = (
            self.ring.writer.receive(
                self.near.fileno(), self.buffer, self.fill, piece_bytes, until_ns, self.buckets
            )
        )
        if received > 0:
            assert begin_ns <= (first_ns or recv_ns) <= recv_ns <= time.monotonic_ns()
            assert bool(first_ns) == bool(ticks)
        assert self.buckets.sum() - counted == pieces
        return received, ticks, stop, pieces


class TestReceive:
    """Receive and push in one call."""

    def test_any_split_gives_the_same_as_push(self, kernel: Any) -> None:
        data = feed(*range(1, 41))
        for piece_bytes in (1, 7, 32, 500):
            with Link(kernel) as link:
                reader = link.ring.reader()
                link.far.sendall(data)
                while link.ring.writer.state[0] < 40:
                    received, ticks, stop, pieces = link.receive(piece_bytes)
                    assert received > 0
                    assert pieces <= ticks
                    assert stop == _kernel.NEED_MORE
                assert link.fill == 0
                assert link.ring.prices(reader) == list(range(1, 41))

    def test_an_unfinished_tick_moves_to_the_front(self, kernel: Any) -> None:
        data = feed(1, 2, 3)
        with Link(kernel) as link:
            link.far.sendall(data[:-4])
            assert link.receive() == (len(data) - 4, 2, _kernel.NEED_MORE, 1)
            assert bytes(link.buffer[: link.fill]) == data[:-4][-link.fill :]
            link.far.sendall(data[-4:])
            assert link.receive() == (4, 1, _kernel.NEED_MORE, 1)

    def test_receives_until_the_deadline_or_silence(self, kernel: Any) -> None:
        data = feed(*range(1, 31))
        with Link(kernel) as link:
            link.far.sendall(data)
            third = len(data) // 3
            assert link.receive(third) == (third, 10, _kernel.NEED_MORE, 1)
            begin_s = time.monotonic()
            received, ticks, _, pieces = link.receive(third, wait_s=60)
            assert (received, ticks, pieces) == (2 * third, 20, 2)
            assert time.monotonic() - begin_s < 30, "silence ends the call"

    def test_silence_a_close_and_a_bad_descriptor(self, kernel: Any) -> None:
        with Link(kernel) as link:
            assert link.receive()[0] == -errno.EAGAIN
            link.far.close()
            assert link.receive()[0] == 0
            link.near.close()
            with pytest.raises(ValueError, match="buffer"):
                link.ring.writer.receive(0, link.buffer, 200, 500, 0, link.buckets)
        with Link(kernel) as link:
            result = link.ring.writer.receive(1 << 20, padded(bytes(9)), 0, 9, 0, link.buckets)
            assert result[0] == -errno.EBADF

    @pytest.mark.parametrize("what", [b"SEQ|7*", b"nonsense*A*1*", b"2025-10-01 09:30:00*?*1*"])
    def test_stops_where_push_does(self, kernel: Any, what: bytes) -> None:
        data = feed(1, 2) + what + feed(3)
        with Link(kernel) as link:
            link.far.sendall(data)
            _, ticks, stop, _ = link.receive()
            assert (ticks, link.position, stop) == Ring(kernel, 64).push(data)
            assert bytes(link.buffer[: link.fill]) == data

    def test_a_full_ring_leaves_the_rest(self, kernel: Any) -> None:
        with Link(kernel, capacity=8) as link:
            reader = link.ring.reader()
            link.far.sendall(feed(*range(1, 13)))
            assert link.receive()[1:3] == (8, _kernel.FULL)
            assert link.ring.prices(reader) == list(range(1, 9))
            assert link.ring.writer.wait_space(0)
            assert link.ring.writer.push(link.buffer, link.position, link.fill, 1)[0] == 4
