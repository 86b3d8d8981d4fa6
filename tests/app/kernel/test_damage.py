"""Damaged bytes of ring and book are evident, to the compiled and to the plain kernel."""

import struct
from typing import Any

import numpy as np
import pytest

from app.kernel.plain.memory import seal_of
from app.model.tick import TICK_DTYPE
from tests.support.kernel.helpers import (
    BOTH,
    LATEST,
    LOSSLESS,
    SYMBOLS,
    book_image,
    feed,
    padded,
    ring_image,
)

CAPACITY = 16
HEADER = {"published": 64, "claimed": 72, "next_seq": 80, "end_seq": 88, "skipped": 104}


@BOTH
def kernel(request: pytest.FixtureRequest) -> Any:
    return request.param


class Stack:
    """A ring with eight ticks in it, its writer and one reader."""

    def __init__(self, kernel: Any, policy: int = LOSSLESS) -> None:
        self.kernel, self.policy = kernel, policy
        self.bytes, self.book = ring_image(CAPACITY), book_image(SYMBOLS)
        self.writer = self.new_writer()
        self.writer.set_reader(0, policy, 0, "r")
        self.reader = kernel.TickReader(self.bytes, 0)
        self.push(*range(1, 9))

    def new_writer(self) -> Any:
        return self.kernel.TickWriter(self.bytes, self.book, self.kernel.FieldParser(SYMBOLS))

    def push(self, *prices: float) -> None:
        data = feed(*prices)
        self.writer.push(padded(data), 0, len(data), 5000)

    def read(self) -> int:
        count: int = self.reader.copy(np.zeros(CAPACITY, TICK_DTYPE))
        self.reader.advance(count)
        return count

    def read_all(self) -> None:
        while self.read():
            pass

    def flip(self, bit: int) -> None:
        self.bytes[bit // 8] ^= 1 << bit % 8


def bits_of(start: int, size: int) -> range:
    return range(8 * start, 8 * (start + size))


@pytest.mark.parametrize("policy", [LOSSLESS, LATEST])
def test_any_flipped_bit_of_a_record(kernel: Any, policy: int) -> None:
    stack = Stack(kernel, policy)
    for bit in bits_of(8192 + 3 * 32, 32):
        stack.flip(bit)
        with pytest.raises(kernel.Damaged):
            stack.read()
        stack.flip(bit)
    assert stack.read() == 8


@pytest.mark.parametrize("policy", [LOSSLESS, LATEST])
def test_damage_after_the_check_does_not_reach_the_reader(kernel: Any, policy: int) -> None:
    """A batch may wait for its turn for long, and is traded as it was checked."""
    stack, ticks = Stack(kernel, policy), np.zeros(CAPACITY, TICK_DTYPE)
    assert stack.reader.copy(ticks) == 8
    before = ticks.copy()
    for bit in bits_of(8192, 8 * 32):
        stack.flip(bit)
    assert (ticks == before).all()
    with pytest.raises(kernel.Damaged):
        stack.reader.copy(ticks)


@pytest.mark.parametrize("policy", [LOSSLESS, LATEST])
def test_any_flipped_bit_of_published_shows_no_tick_twice(kernel: Any, policy: int) -> None:
    """The reader's own buffer still has the ticks of the batch before."""
    stack, ticks = Stack(kernel, policy), np.zeros(CAPACITY, TICK_DTYPE)
    stack.reader.advance(stack.reader.copy(ticks))
    stack.push(9, 10, 11, 12)
    refused = 0
    for bit in bits_of(HEADER["published"], 8):
        stack.flip(bit)
        try:
            count = stack.reader.copy(ticks)
            assert ticks["seq"][:count].tolist() == list(range(8, 8 + count))
        except kernel.Damaged:
            refused += 1
        stack.flip(bit)
    assert refused > 50
    assert stack.reader.copy(ticks) == 4


@pytest.mark.parametrize("policy", [LOSSLESS, LATEST])
def test_ticks_after_a_gap_may_be_read_again(kernel: Any, policy: int) -> None:
    stack, ticks = Stack(kernel, policy), np.zeros(CAPACITY, TICK_DTYPE)
    stack.writer.set_next_seq(100)
    stack.push(9, 10)
    seqs = [*range(8), 100, 101]
    for consumed in (0, 3, 5, 1, 1):
        stack.reader.advance(consumed)
        del seqs[:consumed]
        for _ in range(2):
            assert ticks["seq"][: stack.reader.copy(ticks)].tolist() == seqs


@pytest.mark.parametrize("policy", [LOSSLESS, LATEST])
@pytest.mark.parametrize("content", [bytes(32), "the record before", "a lap before"])
def test_a_record_that_does_not_follow_on(kernel: Any, policy: int, content: Any) -> None:
    stack = Stack(kernel, policy)
    old = bytes(stack.bytes[8192 + 3 * 32 : 8192 + 4 * 32])
    if content == "the record before":
        old = bytes(stack.bytes[8192 + 2 * 32 : 8192 + 3 * 32])
    elif content == "a lap before":
        assert stack.read() == 8
        stack.push(*range(9, 25))
    else:
        old = content
    stack.bytes[8192 + 3 * 32 : 8192 + 4 * 32] = old
    with pytest.raises(kernel.Damaged):
        stack.read_all()


def test_sequences_left_out_by_the_source_are_no_damage(kernel: Any) -> None:
    stack = Stack(kernel)
    assert stack.read() == 8
    stack.writer.set_next_seq(11)
    stack.push(1, 2)
    stack.writer.set_next_seq(14)
    stack.push(3)
    assert stack.read() == 3


@pytest.mark.parametrize("word", HEADER)
def test_any_flipped_bit_of_the_writers_words(kernel: Any, word: str) -> None:
    stack = Stack(kernel)
    for bit in bits_of(HEADER[word], 8):
        stack.flip(bit)
        with pytest.raises(kernel.Damaged):
            stack.writer.check()
        before = bytes(stack.bytes)
        with pytest.raises(kernel.Damaged):
            stack.push(9)
        assert stack.bytes == before
        stack.flip(bit)
    stack.push(9)


@pytest.mark.parametrize("word", ["published", "next_seq", "end_seq"])
def test_a_successor_refuses_flipped_bits(kernel: Any, word: str) -> None:
    stack = Stack(kernel)
    for bit in bits_of(HEADER[word], 8):
        if word == "next_seq" and 8 & ~(1 << bit % 64) < 8:
            continue  # lower than what is published: a writer killed in between leaves that
        stack.flip(bit)
        with pytest.raises(kernel.Damaged):
            stack.new_writer()
        stack.flip(bit)
    assert stack.new_writer().state[:2] == (8, 8)


@pytest.mark.parametrize("published", [0, 3, 7])
def test_a_reader_and_a_lowered_published(kernel: Any, published: int) -> None:
    """The next writer would write over ticks that the reader has."""
    stack = Stack(kernel)
    struct.pack_into("<Q", stack.bytes, 64, published)
    with pytest.raises(kernel.Damaged):
        stack.new_writer()


def test_a_readers_flipped_cursor_is_restored(kernel: Any) -> None:
    stack = Stack(kernel)
    stack.read()
    struct.pack_into("<Q", stack.bytes, 256 + 8, 1)
    stack.reader.wait(0)
    assert stack.writer.reader(0)[1] == 8


def test_any_flipped_bit_of_a_cell_in_use(kernel: Any) -> None:
    image = book_image(SYMBOLS)
    book = kernel.BookView(image)
    book.put(0, 1.5, 10, 20, 6)
    book.put(0, 2.5, 11, 21, 7)
    live = image[4096] & 1
    cell = 4096 + 16 + 24 * live
    for bit in [*bits_of(4096, 8), *bits_of(cell, 24)]:
        image[bit // 8] ^= 1 << bit % 8
        with pytest.raises(kernel.Damaged):
            book.get(0)
        with pytest.raises(kernel.Damaged):
            book.check(0, 99)
        book.check(1, 99)
        image[bit // 8] ^= 1 << bit % 8
    assert book.get(0) == (2.5, 11, 21, 7)


def test_every_bit_reaches_the_seal() -> None:
    words = (1759311000000000000, 0x4059500000000000, 123456, 0xDEADBEEF0007)
    sealed = seal_of(*words)
    assert seal_of(0, 0, 0, 0) != 0
    for at in range(4):
        for bit in range(64):
            changed = list(words)
            changed[at] ^= 1 << bit
            assert seal_of(*changed) != sealed


def test_more_symbols_than_a_record_can_name(kernel: Any) -> None:
    symbols = [f"{i:x}" for i in range(65537)]
    with pytest.raises(ValueError, match="65537 symbols, at most 65536"):
        kernel.FieldParser(symbols)
    kernel.FieldParser(symbols[:-1])


def test_copies_of_ticks_keep_their_layout() -> None:
    """NumPy drops padding, and the kernel takes any bytes that are a whole number of ticks."""
    ticks = np.zeros(16, TICK_DTYPE)
    for copy in (np.concatenate([ticks, ticks]), ticks[ticks["symbol"] == 0], ticks[::2].copy()):
        assert copy.dtype == TICK_DTYPE
        assert copy.nbytes == 32 * len(copy)
