"""A symbol's history from the ring, without a slot in it."""

from collections.abc import Iterator

import numpy as np
import pytest

from app.config.settings import Settings
from app.dashboard.sources.market import POINTS_MAX, Market
from app.dashboard.sources.sentiment import Sentiments
from app.kernel import _kernel
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.tick_ring import FREE, LOSSLESS, TickRing

CAPACITY = 1024
SYMBOLS = ["A", "B", "ABCDEFGHIJKLMNOPQRSTUVWXYZ123456"]


class Feed:
    """Writes ticks: prices that tell where each belongs."""

    def __init__(self, name: str) -> None:
        self.settings = Settings(
            shm_price_book=f"{name}_book",
            shm_tick_ring=f"{name}_ring",
            ring_capacity_ticks=CAPACITY,
        )
        self.book = SharedPriceBook(SYMBOLS, f"{name}_book")
        self.ring = TickRing.open_writer(f"{name}_ring", CAPACITY, "lossless")
        parser = _kernel.FieldParser(SYMBOLS)
        self.writer = _kernel.TickWriter(self.ring.buffer, self.book.buffer, parser)
        self.count = 0

    def write(self, count: int) -> None:
        text = b"".join(
            b"2025-10-01 10:%02d:%02d*%s*%.2f*"
            % (seq // 60 % 60, seq % 60, SYMBOLS[seq % 3].encode(), price_of(seq))
            for seq in range(self.count, self.count + count)
        )
        buffer = bytearray(text + bytes(_kernel.PARSE_SLACK_BYTES))
        self.writer.push(buffer, 0, len(text), 1)
        self.count += count

    def close(self) -> None:
        del self.writer
        self.ring.close()
        self.book.close()


def price_of(seq: int) -> float:
    """Of the tick with that number."""
    return round(100 + (seq * 7919 % 977) / 100, 2)


@pytest.fixture
def feed(name: str) -> Iterator[Feed]:
    made = Feed(name)
    yield made
    made.close()


@pytest.fixture
def market(feed: Feed) -> Iterator[Market]:
    made = Market(feed.settings, Sentiments(feed.settings))
    assert made.attach()
    yield made
    made.close()


def averages(symbol: str, seq: int, window: int) -> float | None:
    """A plain reading: the mean of the symbol's last prices up to a tick."""
    own = [price_of(s) for s in range(seq + 1) if SYMBOLS[s % 3] == symbol]
    return None if len(own) < window else float(np.mean(own[-window:]))


def check(market: Market, symbol: str, seqs: list[int]) -> None:
    history = market.history(symbol)
    assert history is not None
    assert [point.seq for point in history.points] == seqs
    for point in history.points:
        assert point.price == price_of(point.seq)
        assert point.short == pytest.approx(averages(symbol, point.seq, 5))
        assert point.long == pytest.approx(averages(symbol, point.seq, 20))


def test_a_history_begins_with_what_the_ring_has_and_goes_on(feed: Feed, market: Market) -> None:
    feed.write(90)
    market.read()
    check(market, "B", list(range(1, 90, 3)))
    for _ in range(4):
        feed.write(6)
        market.read()
    check(market, "B", list(range(1, 114, 3)))
    check(market, SYMBOLS[2], list(range(2, 114, 3)))


def test_nothing_is_shown_twice_if_ticks_arrive_between_two_readings(
    feed: Feed, market: Market
) -> None:
    feed.write(30)
    market.read()
    feed.write(9)  # not read yet by the histories
    check(market, "A", list(range(0, 30, 3)))
    market.read()
    check(market, "A", list(range(0, 39, 3)))


def test_a_fast_symbol_is_thinned_with_the_same_averages(feed: Feed, market: Market) -> None:
    feed.write(60)
    market.read()
    assert market.history("A") is not None
    feed.write(90)
    market.read()
    history = market.history("A")
    assert history is not None
    assert len(history.fresh) == 5
    assert history.fresh[-1].seq == 147, "the newest is among them"
    for point in history.fresh:
        assert point.short == pytest.approx(averages("A", point.seq, 5))
        assert point.long == pytest.approx(averages("A", point.seq, 20))


def test_where_ticks_are_missing_the_averages_begin_anew(feed: Feed, market: Market) -> None:
    feed.write(90)
    market.read()
    market.history("A")
    for _ in range(9):
        feed.write(300)  # far more than the ring holds, unread
    market.read()
    history = market.history("A")
    assert history is not None
    assert history.fresh
    first = history.fresh[0].seq
    assert first > 90
    for point in history.points:
        assert point.price == price_of(point.seq), "never a price of another tick"
    for point in history.fresh[1:]:
        if point.long is not None:
            assert point.long == pytest.approx(averages("A", point.seq, 20))
    assert len(history.points) <= POINTS_MAX


def test_no_slot_is_taken_and_no_writer_waits(feed: Feed, market: Market) -> None:
    feed.write(30)
    market.read()
    market.history("A")
    states = [feed.ring.view.reader(slot)[0] for slot in range(_kernel.MAX_READERS)]
    assert states == [FREE] * _kernel.MAX_READERS
    assert LOSSLESS not in states
    feed.write(5000)  # would stop at the ring's end if a reader were waited for
    assert feed.ring.state.published == 5030


def test_a_replaced_ring_is_noticed_and_begins_anew(feed: Feed, market: Market, name: str) -> None:
    feed.write(30)
    market.read()
    generation = market.generation
    assert market.history("A") is not None
    feed.book.unlink()
    feed.ring.unlink()
    assert not market.attach()
    assert market.problem
    again = Feed(name)
    assert market.attach()
    assert market.generation > generation
    again.write(6)
    market.read()
    check(market, "A", [0, 3])
    again.close()


def test_an_unknown_symbol_has_no_history(market: Market) -> None:
    assert market.history("NOPE") is None


def test_the_latest_price_of_each_symbol_however_long_its_name(feed: Feed, market: Market) -> None:
    feed.write(30)
    market.read()
    assert market.prices() == {symbol: price_of(27 + at) for at, symbol in enumerate(SYMBOLS)}
    assert market.prices(1) == {"A": price_of(27)}
