"""The feed after the end of the file: a seeded random walk from the last prices.

Any tick can be computed without those before it.  Time is cut into legs of a few rows; a row has
one tick of each symbol.  The log price of a symbol between two legs is a random number of its own,
and a Brownian bridge connects two of them within a leg, so prices move around the last price of the
file and never drift away from it.  All arithmetic is on integers except one exponential, which uses
only additions and multiplications: the bytes are the same on any machine.
"""

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from app.market_data.feed_segment import Block, Sentiments
from app.market_data.file_segment import FileSegment
from app.market_data.frame_encoder import Fields, concatenate, decimals_of, times_of
from app.market_data.generated.counter_rng import NORMAL_SD, CounterRng
from app.market_data.ragged import Ints
from app.market_data.sentiment import VALUE_TEXTS, SentimentTrack, seeded_values
from app.market_data.tick_table import Rows
from app.model.money import DECIMALS_MAX, MAX_PRICE
from app.model.timestamps import MAX_EVENT_NS, NS_PER_S
from app.model.wire.frames import DELIMITER

Floats = npt.NDArray[np.float64]

BLOCK_TICKS: Final = 2048
ROWS_MIN: Final = 16
SAMPLE_TICKS: Final = 1 << 16
VOLATILITY_PPM: Final = 300
VOLATILITY_PPM_MIN: Final = 20
VOLATILITY_PPM_MAX: Final = 20_000
STEP_NS_MAX: Final = NS_PER_S
LOG_MAX: Final = 2.0
"""Limits of a price: the last price of the file times or divided by e^2, about 7."""


@dataclass(slots=True)
class WalkStart:
    """Where the walk starts: ``units / 10**decimals`` is a symbol's last price in the file.

    ``volatility_ppm`` is the standard deviation of a step.  The arrays have the shape
    ``(symbols,)``.
    """

    units: Ints
    decimals: Ints
    volatility_ppm: Ints
    event_ns: int
    step_ns: int

    @classmethod
    def of(cls, rows: Rows, track: SentimentTrack) -> "WalkStart":
        """Read the start from the end of the file."""
        count = len(rows.symbols)
        last = FileSegment(rows, track).last_ticks(len(rows)).tolist()
        sample: list[list[bytes]] = [[] for _ in range(count)]
        for row in range(max(0, len(rows) - SAMPLE_TICKS), len(rows)):
            sample[rows.symbol_index[row]].append(rows.frame(row).split(DELIMITER)[2])
        units, decimals, volatility = [], [], []
        for symbol, texts in enumerate(sample):
            texts = texts or [rows.frame(last[symbol]).split(DELIMITER)[2]]
            places = max(len(text.partition(b".")[2]) for text in texts)
            prices = [_units(text, places) for text in texts]
            units.append(prices[-1])
            decimals.append(places)
            volatility.append(_volatility_ppm(prices))
        step_ns = min(median_step_ns(rows.event_ns), STEP_NS_MAX)
        return cls(
            np.array(units, np.int64),
            np.array(decimals, np.int64),
            np.array(volatility, np.int64),
            int(rows.event_ns[-1]),
            step_ns,
        )


def median_step_ns(event_ns: Ints) -> int:
    """The usual time between two ticks: the median, else (if 0) the mean, else (if 0) 1 s."""
    if len(event_ns) < 2:
        return NS_PER_S
    median = int(np.median(np.diff(event_ns[-SAMPLE_TICKS:])))
    return median or int(event_ns[-1] - event_ns[0]) // (len(event_ns) - 1) or NS_PER_S


def _units(text: bytes, places: int) -> int:
    whole, _, fraction = text.partition(b".")
    return int(whole + fraction.ljust(places, b"0"))


def _volatility_ppm(prices: list[int]) -> int:
    """Mean absolute step over mean price, as the standard deviation of a normal step."""
    if len(prices) < 3:
        return VOLATILITY_PPM
    steps = sum(abs(b - a) for a, b in itertools.pairwise(prices))
    # The mean absolute value of a normal variable is sqrt(2 / pi) of its standard deviation.
    ppm = steps * 1_253_314 // sum(prices[1:])
    return min(max(ppm, VOLATILITY_PPM_MIN), VOLATILITY_PPM_MAX)


class WalkSegment:
    """The walk.  Row ``r`` starts with tick ``r * symbols``: one per symbol, in rotated order."""

    def __init__(
        self,
        symbols: list[str],
        start: WalkStart,
        seed: int,
        sentiment_every_ticks: int,
        sentiments_before: int,
    ) -> None:
        self._start, self._count = start, len(symbols)
        self._rows = max(ROWS_MIN, BLOCK_TICKS // self._count)
        self._symbols = Fields.from_texts([symbol.encode() for symbol in symbols])
        self._steps = CounterRng(seed, "walk steps")
        self._legs = CounterRng(seed, "walk legs")
        self._rotations = CounterRng(seed, "walk order")
        self._seed, self._sentiment_every_ticks = seed, sentiment_every_ticks
        self._sentiments_before = sentiments_before
        self.ticks = (MAX_EVENT_NS - start.event_ns) // start.step_ns

    def block_first(self, index: int) -> int:
        """Each leg is a block."""
        return index - index % (self._rows * self._count)

    def block(self, first: int) -> Block:
        """Encode one leg."""
        leg = first // (self._rows * self._count)
        end = min(first + self._rows * self._count, self.ticks)
        index = np.arange(first, end)
        symbol_index = self._symbol_at(index)
        units = self._prices(leg)[index // self._count - leg * self._rows, symbol_index]
        event_ns = self._event_ns(index)
        prices = decimals_of(units, self._start.decimals[symbol_index])
        texts = [times_of(event_ns), self._symbols.take(symbol_index), prices]
        data, offsets = concatenate(texts)
        return Block.of(first, data, offsets, event_ns)

    def _event_ns(self, index: Ints) -> Ints:
        return self._start.event_ns + (index + 1) * self._start.step_ns

    def _symbol_at(self, index: Ints) -> Ints:
        row, place = np.divmod(index, self._count)
        return (place + self._rotations.below(self._count, row)) % self._count

    def _prices(self, leg: int) -> Ints:
        """Prices of one leg, shape ``(rows, symbols)``, in units of each symbol's last decimal."""
        rows, count = self._rows, self._count
        at = np.arange(leg * rows * count, (leg + 1) * rows * count).reshape(rows, count)
        path = np.cumsum(self._steps.normals(at), axis=0)
        begin, end = self._leg_point(leg), self._leg_point(leg + 1)
        done = np.arange(1, rows + 1)[:, None]
        bridge = path + begin + (end - begin - path[-1]) * done // rows
        log_return = bridge * self._start.volatility_ppm / float(NORMAL_SD * 1_000_000)
        factor = exponential(log_return.clip(-LOG_MAX, LOG_MAX))
        limit = MAX_PRICE * 10**self._start.decimals
        units = np.rint(self._start.units * factor).clip(1, None)
        prices: Ints = np.minimum(units, limit.astype(np.float64)).astype(np.int64)
        return prices

    def _leg_point(self, leg: int) -> Ints:
        """Log price of each symbol before leg ``leg``, in the unit of a step; 0 for the first."""
        points = self._legs.normals(np.arange(leg * self._count, (leg + 1) * self._count))
        return points * (int(self._rows**0.5) if leg else 0)

    def last_ticks(self, before: int) -> Ints:
        """For each symbol its last tick before tick ``before``, or -1."""
        row = before // self._count
        here = self._ticks_of_row(row)
        earlier = self._ticks_of_row(row - 1) if row else np.full(self._count, -1, np.int64)
        return np.where(here < before, here, earlier)

    def _ticks_of_row(self, row: int) -> Ints:
        """For each symbol its tick in a row."""
        rotation = self._rotations.below(self._count, np.array([row]))
        return row * self._count + (np.arange(self._count) - rotation) % self._count

    def sentiments(self, first: int, end: int) -> Sentiments:
        """One sentiment with every ``sentiment_every_ticks``-th tick, with its symbol and time."""
        number = np.arange(
            -(-first // self._sentiment_every_ticks), -(-end // self._sentiment_every_ticks)
        )
        index = number * self._sentiment_every_ticks
        symbol_index = self._symbol_at(index)
        values = VALUE_TEXTS.take(seeded_values(self._seed, number + self._sentiments_before))
        times = times_of(self._event_ns(index))
        data, offsets = concatenate([times, self._symbols.take(symbol_index), values])
        # Every tick has an event time of its own.
        return Sentiments(data, offsets, symbol_index, index, np.zeros(len(index), np.bool_))

    def sentiment_count(self, before: int) -> int:
        """How many sentiments are due before tick ``before``."""
        return -(-before // self._sentiment_every_ticks)

    def sentiment_search_start(self, before: int) -> int:
        """Always 0: the search may need the whole walk."""
        return 0


def exponential(x: Floats) -> Floats:
    """e**x for ``|x| <= 8`` to 15 digits, with IEEE additions and multiplications only.

    ``np.exp`` may differ in the last bit between instruction sets.  Taylor series of ``x / 256``,
    then squared eight times.
    """
    small = x / 256.0
    total = np.ones_like(x)
    for degree in range(9, 0, -1):
        total = total * small / degree + 1.0
    for _ in range(8):
        total = total * total
    return total


assert exponential(np.array([0.0]))[0] == 1.0
assert DECIMALS_MAX <= 9, "units of a price at its limit fit an int64"
