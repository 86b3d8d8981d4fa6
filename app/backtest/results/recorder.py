"""Follows a backtest: equity, exposure and costs along the ticks, and every fill with its price."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from app.backtest.performance.daily import DAY_NS
from app.backtest.result import Fill, share_a_ns
from app.model.money import Scale

ROWS_MAX: Final = 100_000
"""Of the equity table; a longer run has every n-th tick, and the last of each day."""
FLUSH_TICKS: Final = 8192
BUCKETS_MIN, BUCKETS_MAX = 24, 600
BUCKET_CELLS_MAX: Final = 2_000_000
"""Of all symbols together: bounds the memory of a run with many symbols."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
SUMS: Final = ("cash", "turnover", "fees", "borrow")
SERIES: Final = ("holdings", "exposure_gross", "benchmark", *SUMS)


class PricePath(NamedTuple):
    """The lowest and the highest tick of each bucket, in order of time."""

    event_ns: Ints
    price: Floats


class _Batch:
    """Some ticks, sorted by symbol; ``key`` orders ticks and fills by symbol, then by place.

    ``heads``: where each symbol begins.
    """

    def __init__(self, ticks: npt.NDArray[np.void]) -> None:
        self.count = len(ticks)
        self.first = int(ticks["seq"][0])
        symbol = ticks["symbol"].astype(np.int64)
        self.order = np.argsort(symbol, kind="stable")
        self.symbol = symbol[self.order]
        self.price: Floats = ticks["price"][self.order]
        self.event_ns: Ints = ticks["event_ns"][self.order]
        self.key = self.symbol * self.count + self.order
        self.heads = np.flatnonzero(np.diff(self.symbol, prepend=-1))


class Shorts:
    """What shorts cost along the ticks, charged by fills or accrued since."""

    def __init__(self, symbols: int, borrow_rate: int) -> None:
        self._a_ns = share_a_ns(borrow_rate)
        self.cost = bool(borrow_rate)
        self._sold_for = np.zeros(symbols)
        self._since_ns = np.zeros(symbols, np.int64)
        self._accrued = np.zeros(symbols)

    def follow(self, batch: _Batch, fills: list[Fill]) -> Floats:
        """How much more it is after each tick of the batch than after the tick before."""
        steps = np.zeros(batch.count)
        ends = np.append(batch.heads[1:], batch.count).tolist()
        heads = batch.heads.tolist()
        spans = dict(zip(batch.symbol[heads].tolist(), zip(heads, ends, strict=True), strict=True))
        of: dict[int, list[Fill]] = {each: [] for each in np.flatnonzero(self._sold_for).tolist()}
        for fill in fills:
            of.setdefault(fill.symbol_index, []).append(fill)
        for symbol, filled in of.items():
            start, end = spans.get(symbol, (0, 0))
            places = batch.order[start:end]
            for fill in filled:
                # A fill comes after its tick's price.
                done = int(np.searchsorted(places, fill.seq - batch.first, "right"))
                stop = max(start, end - len(places) + done)
                self._accrue(batch, symbol, slice(start, stop), steps)
                start = stop
                steps[fill.seq - batch.first] += fill.borrow - self._accrued[symbol]
                self._accrued[symbol] = 0.0
                self._sold_for[symbol], self._since_ns[symbol] = fill.short, fill.event_ns
            self._accrue(batch, symbol, slice(start, end), steps)
        return steps

    def _accrue(self, batch: _Batch, symbol: int, span: slice, steps: Floats) -> None:
        if span.start == span.stop or not self._sold_for[symbol]:
            return
        held_ns = np.maximum(batch.event_ns[span] - self._since_ns[symbol], 0)
        accrued = self._a_ns * self._sold_for[symbol] * held_ns
        steps[batch.order[span]] += np.diff(accrued, prepend=self._accrued[symbol])
        self._accrued[symbol] = accrued[-1]


class Recorder:
    """Takes the ticks and fills of a run in any pieces.

    One row of ``series`` is what holds after tick ``seq``.  ``holdings`` is their value at the
    latest prices, negative when short; ``benchmark`` is the value of one unit of money in equal
    parts of each symbol, bought at its first tick; the others are sums since the start.  ``cash``
    is without ``borrow``, which has also what shorts have accrued up to their latest prices.
    """

    def __init__(
        self,
        symbols: int,
        total: int,
        rows_max: int = ROWS_MAX,
        borrow_rate: int = 0,
        decimals: int = 0,
    ) -> None:
        """``borrow_rate``: see :func:`share_a_ns`; ``decimals``: of quantities."""
        self.seq: Ints = np.empty(0, np.int64)
        self.event_ns: Ints = np.empty(0, np.int64)
        self.series: dict[str, Floats] = {}
        self.fills: list[Fill] = []
        self.fill_ns: Ints = np.empty(0, np.int64)
        self.fill_market: Floats = np.empty(0)
        """The symbol's latest price at the fill's tick."""
        self.fill_position: Floats = np.empty(0)
        """What is held after the fill."""
        self.last_price = np.zeros(symbols)
        self._step = max(1, -(-total // rows_max))
        self._first_price = np.zeros(symbols)
        self._qty = np.zeros(symbols)
        self._units = [0] * symbols
        """The same, exact: sums of floats would leave a rest of a large holding that is sold."""
        self._factor = Scale(decimals).factor
        self._sums = dict.fromkeys(SUMS, 0.0)
        self._shorts = Shorts(symbols, borrow_rate)
        self._pending: list[npt.NDArray[np.void]] = []
        self._pending_ticks = 0
        self._fills: list[Fill] = []
        self._kept: dict[str, list[npt.NDArray[np.generic]]] = defaultdict(list)
        self._latest: dict[str, npt.NDArray[np.generic]] = {}
        """The last tick so far, if it has no row."""
        self._latest_day: int | None = None
        buckets = min(BUCKETS_MAX, max(BUCKETS_MIN, BUCKET_CELLS_MAX // max(symbols, 1)))
        self._bucket_ticks = max(1, -(-total // buckets))
        self._buckets = buckets
        self._low = np.full(symbols * buckets, np.nan)
        self._high = np.full(symbols * buckets, np.nan)
        self._low_ns = np.zeros(symbols * buckets, np.int64)
        self._high_ns = np.zeros(symbols * buckets, np.int64)

    def take(self, ticks: npt.NDArray[np.void], fills: Sequence[Fill]) -> None:
        """Add ticks and their fills, in order of sequence."""
        self._pending.append(ticks.copy())
        self._pending_ticks += len(ticks)
        self._fills += fills
        if self._pending_ticks >= FLUSH_TICKS:
            self._flush()

    def close(self) -> None:
        """The run is over: makes the tables."""
        self._flush()
        if self._latest:
            for name, value in self._latest.items():
                self._kept[name].append(value)
        joined = {name: np.concatenate(parts) for name, parts in self._kept.items()}
        self._kept.clear()
        self.seq = joined.pop("seq", np.empty(0)).astype(np.int64)
        self.event_ns = joined.pop("event_ns", np.empty(0)).astype(np.int64)
        self.fill_ns = joined.pop("fill_ns", np.empty(0)).astype(np.int64)
        self.fill_market = joined.pop("fill_market", np.empty(0)).astype(np.float64)
        self.fill_position = joined.pop("fill_position", np.empty(0)).astype(np.float64)
        self.series = {name: joined.get(name, np.empty(0)).astype(np.float64) for name in SERIES}

    def prices(self, symbol_index: int) -> PricePath:
        """The path of one symbol's price, to draw it."""
        at = slice(symbol_index * self._buckets, (symbol_index + 1) * self._buckets)
        seen = ~np.isnan(self._low[at])
        event_ns = np.concatenate([self._low_ns[at][seen], self._high_ns[at][seen]])
        price = np.concatenate([self._low[at][seen], self._high[at][seen]])
        bucket = np.tile(np.flatnonzero(seen), 2)
        order = np.lexsort((event_ns, bucket))
        event_ns, price = event_ns[order], price[order]
        same = (np.diff(event_ns, prepend=-1) == 0) & (np.diff(price, prepend=np.nan) == 0)
        return PricePath(event_ns[~same], price[~same])

    def _flush(self) -> None:
        if not self._pending:
            return
        ticks = np.concatenate(self._pending)
        self._pending, self._pending_ticks = [], 0
        fills, self._fills = self._fills, []
        batch = _Batch(ticks)
        series = self._series(batch, fills)
        series["seq"] = ticks["seq"].astype(np.int64)
        series["event_ns"] = ticks["event_ns"]
        self._sample(series)
        self._see_prices(batch)
        tails = np.append(batch.heads[1:], batch.count) - 1
        self.last_price[batch.symbol[tails]] = batch.price[tails]

    def _series(self, batch: _Batch, fills: list[Fill]) -> dict[str, npt.NDArray[np.generic]]:
        """Every series after each tick of the batch."""
        previous = np.empty(batch.count)
        previous[1:] = batch.price[:-1]
        heads = batch.heads
        names = batch.symbol[heads]
        new = self._first_price[names] == 0
        self._first_price[names[new]] = batch.price[heads[new]]
        previous[heads] = np.where(new, batch.price[heads], self.last_price[names])
        change = batch.price - previous
        start = {"holdings": float(self._qty @ self.last_price)}
        start["exposure_gross"] = float(np.abs(self._qty) @ self.last_price)
        start["benchmark"] = self._benchmark(self._first_price, names[new])
        steps = {name: np.zeros(batch.count) for name in SERIES}
        held = self._qty[batch.symbol]
        if fills:
            held = self._fill_steps(batch, fills, steps)
        if self._shorts.cost:
            steps["borrow"] += self._shorts.follow(batch, fills)
        order = batch.order
        steps["holdings"][order] += held * change
        steps["exposure_gross"][order] += np.abs(held) * change
        steps["benchmark"][order] = change / self._first_price[batch.symbol] / len(self._qty)
        start |= self._sums
        found: dict[str, npt.NDArray[np.generic]] = {}
        for name in SERIES:
            found[name] = start[name] + np.cumsum(steps[name])
        self._sums = {name: float(found[name][-1]) for name in self._sums}
        return found

    def _benchmark(self, first_price: Floats, new: Ints) -> float:
        """Its value before the batch, in which the symbols ``new`` have their first tick."""
        value = np.ones(len(first_price))
        seen = first_price > 0
        seen[new] = False
        value[seen] = self.last_price[seen] / first_price[seen]
        return float(np.mean(value))

    def _fill_steps(self, batch: _Batch, fills: list[Fill], steps: dict[str, Floats]) -> Floats:
        """Add what the fills change; returns what each tick found held.

        A fill comes after its tick's price, so the tick itself finds what was held before.
        """
        at = np.array([fill.seq - batch.first for fill in fills], np.int64)
        symbol = np.array([fill.symbol_index for fill in fills], np.int64)
        qty, price, fee = (
            np.array([fill[place] for fill in fills], np.float64) for place in (2, 3, 4)
        )
        key = symbol * batch.count + at
        order = np.argsort(key, kind="stable")
        sorted_key = key[order]
        at_start = self._qty.copy()
        before, after = self._hold(fills)
        place = np.searchsorted(batch.key, key, "right") - 1
        inside = (place >= 0) & (batch.symbol[place] == symbol)
        market = np.where(inside, batch.price[place], self.last_price[symbol])
        np.add.at(steps["holdings"], at, qty * market)
        np.add.at(steps["exposure_gross"], at, (np.abs(after) - np.abs(before)) * market)
        np.add.at(steps["cash"], at, -(qty * price + fee))
        np.add.at(steps["turnover"], at, np.abs(qty) * price)
        np.add.at(steps["fees"], at, fee)
        # After the latest fill of the same symbol before the tick, if the batch has one.
        latest = np.searchsorted(sorted_key, batch.key)
        filled = latest > np.searchsorted(sorted_key, batch.symbol * batch.count)
        found: Floats = np.where(filled, after[order][latest - 1], at_start[batch.symbol])
        self.fills += fills
        event_ns = np.empty(batch.count, np.int64)
        event_ns[batch.order] = batch.event_ns
        self._kept["fill_ns"].append(event_ns[at])
        self._kept["fill_market"].append(market)
        self._kept["fill_position"].append(after)
        return found

    def _hold(self, fills: list[Fill]) -> tuple[Floats, Floats]:
        """Take note of what the fills change; returns what is held before and after each."""
        before, after = np.empty(len(fills)), np.empty(len(fills))
        units, factor = self._units, self._factor
        for place, fill in enumerate(fills):
            index = fill.symbol_index
            before[place] = units[index] / factor
            units[index] += fill.signed_units
            after[place] = self._qty[index] = units[index] / factor
        return before, after

    def _sample(self, series: dict[str, npt.NDArray[np.generic]]) -> None:
        """Keep every n-th tick and the last of each day; the last of all waits for the next."""
        seq, day = series["seq"].astype(np.int64), series["event_ns"].astype(np.int64) // DAY_NS
        if self._latest and self._latest_day != int(day[0]):
            for name, value in self._latest.items():
                self._kept[name].append(value)
        picked = (seq + 1) % self._step == 0
        picked[:-1] |= day[:-1] != day[1:]
        for name, values in series.items():
            self._kept[name].append(values[picked])
        self._latest = {} if picked[-1] else {name: v[-1:].copy() for name, v in series.items()}
        self._latest_day = int(day[-1])

    def _see_prices(self, batch: _Batch) -> None:
        """Update the lowest and the highest tick of each bucket."""
        bucket = (batch.first + batch.order) // self._bucket_ticks
        cell = batch.symbol * self._buckets + bucket
        heads = np.flatnonzero(np.diff(cell, prepend=-1))
        group = np.repeat(np.arange(len(heads)), np.diff(heads, append=batch.count))
        cells = cell[heads]
        for reduce, best, best_ns, better in (
            (np.minimum, self._low, self._low_ns, np.less),
            (np.maximum, self._high, self._high_ns, np.greater),
        ):
            found = reduce.reduceat(batch.price, heads)
            at = np.flatnonzero(batch.price == found[group])
            first = at[np.flatnonzero(np.diff(group[at], prepend=-1))]
            known = best[cells]
            take = np.isnan(known) | better(found, known)
            best[cells[take]] = found[take]
            best_ns[cells[take]] = batch.event_ns[first[take]]
