cdef class Tick:
    """One tick as a plain-Python strategy sees it.

    ``event_ns`` is int64 ns since the epoch, ``sentiment`` 0 to 100 or -1 for none yet.
    """
    cdef readonly str symbol
    cdef readonly double price
    cdef readonly int64_t event_ns
    cdef readonly uint64_t seq
    cdef readonly int sentiment

    def __repr__(self):
        return (f"Tick(symbol={self.symbol!r}, price={self.price}, event_ns={self.event_ns}, "
                f"seq={self.seq}, sentiment={self.sentiment})")


def call_on_tick(on_tick, const tick_record[::1] ticks, const int16_t[::1] sentiments, list symbols,
                 int8_t[::1] signals):
    """Call ``on_tick(Tick)`` for each record; BUY, SELL, HOLD or None becomes +1, -1, 0."""
    cdef Py_ssize_t i
    cdef Tick tick
    for i in range(ticks.shape[0]):
        tick = Tick.__new__(Tick)
        tick.symbol = <str>symbols[ticks[i].symbol]
        tick.price = ticks[i].price
        tick.event_ns = ticks[i].event_ns
        tick.seq = ticks[i].seq
        tick.sentiment = sentiments[i]
        answer = on_tick(tick)
        if answer is None or answer == "HOLD":
            signals[i] = 0
        elif answer == "BUY":
            signals[i] = 1
        elif answer == "SELL":
            signals[i] = -1
        else:
            raise ValueError(f"on_tick returned {answer!r}: BUY, SELL, HOLD or None")


def join_sentiment(const tick_record[::1] ticks, const tick_record[::1] events, Py_ssize_t next_event,
                   int16_t[::1] latest, int16_t[::1] out):
    """Give each tick its symbol's latest sentiment with event time <= its own.

    ``events`` in event order; ``latest`` per symbol is carried on.  Returns the next event.
    """
    cdef Py_ssize_t i, n = ticks.shape[0], m = events.shape[0], k = next_event
    if out.shape[0] < n:
        raise ValueError("out is shorter than ticks")
    with nogil:
        for i in range(n):
            while k < m and events[k].event_ns <= ticks[i].event_ns:
                latest[events[k].symbol] = <int16_t>events[k].price
                k += 1
            out[i] = latest[ticks[i].symbol]
    return k


cdef class CrossAverage:
    """Short and long moving average of every symbol, exact: prices are int64 in 1e-9 units."""
    cdef int64_t *window
    cdef int128 *sums
    cdef uint64_t *seen
    cdef readonly Py_ssize_t count, short_ticks, long_ticks

    def __cinit__(self, Py_ssize_t count, Py_ssize_t short_ticks, Py_ssize_t long_ticks):
        if not 0 < short_ticks < long_ticks:
            raise ValueError(f"short window {short_ticks} must be above 0, below {long_ticks}")
        self.count, self.short_ticks, self.long_ticks = count, short_ticks, long_ticks
        self.window = <int64_t *>calloc(count * long_ticks + 1, sizeof(int64_t))
        self.sums = <int128 *>calloc(count * 2 + 1, sizeof(int128))
        self.seen = <uint64_t *>calloc(count + 1, sizeof(uint64_t))
        if self.window == NULL or self.sums == NULL or self.seen == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.window)
        free(self.sums)
        free(self.seen)

    cdef inline int add(self, Py_ssize_t symbol, int64_t price) noexcept nogil:
        """+1 short above long, -1 below, 0 equal or long window not full."""
        cdef int64_t *window = self.window + symbol * self.long_ticks
        cdef int128 *sums = self.sums + symbol * 2
        cdef uint64_t seen = self.seen[symbol]
        cdef Py_ssize_t at = <Py_ssize_t>(seen % <uint64_t>self.long_ticks)
        cdef Py_ssize_t leaving = at - self.short_ticks
        cdef int128 short_side, long_side
        if leaving < 0:
            leaving += self.long_ticks
        # Slots never filled hold zero, so leaving early subtracts nothing.
        sums[0] += price - window[leaving]
        sums[1] += price - window[at]
        window[at] = price
        self.seen[symbol] = seen + 1
        if seen + 1 < <uint64_t>self.long_ticks:
            return 0
        short_side = sums[0] * self.long_ticks
        long_side = sums[1] * self.short_ticks
        return (short_side > long_side) - (short_side < long_side)

    def signals(self, const tick_record[::1] ticks, int8_t[::1] out):
        """The averages' own signal for each tick."""
        cdef Py_ssize_t i
        if out.shape[0] < ticks.shape[0]:
            raise ValueError("out is shorter than ticks")
        with nogil:
            for i in range(ticks.shape[0]):
                if <Py_ssize_t>ticks[i].symbol >= self.count:
                    with gil:
                        raise IndexError(ticks[i].symbol)
                out[i] = <int8_t>self.add(ticks[i].symbol, llrint(ticks[i].price * 1e9))

    def agree(self, const tick_record[::1] ticks, const int16_t[::1] sentiments, int bullish,
              int bearish, int8_t[::1] out):
        """The signal where averages and sentiment say the same, else 0."""
        cdef Py_ssize_t i
        cdef int average, mood
        self.signals(ticks, out)
        if sentiments.shape[0] < ticks.shape[0]:
            raise ValueError("sentiments are shorter than ticks")
        with nogil:
            for i in range(ticks.shape[0]):
                mood = (sentiments[i] > bullish) - (0 <= sentiments[i] < bearish)
                if out[i] != mood:
                    out[i] = 0


def gate(const int8_t[::1] signals, const tick_record[::1] ticks, Py_ssize_t start,
         int8_t[::1] position, uint8_t[::1] busy, bint every, int32_t[::1] orders):
    """Which ticks send an order; ``(orders, next tick)``.

    ``position`` per symbol is -1, 0, +1; unless ``every``, a signal that matches it sends nothing.
    A symbol whose order is still unanswered (``busy``) stops the batch at its next order: what that
    one is depends on the answer.  ``busy`` keeps the position before the order, plus 2.  Orders are
    indices into ``ticks``.
    """
    cdef Py_ssize_t i = start, n = signals.shape[0], count = 0, room = orders.shape[0]
    cdef uint32_t symbol
    if ticks.shape[0] < n:
        raise ValueError("ticks are fewer than signals")
    with nogil:
        while i < n:
            if signals[i]:
                symbol = ticks[i].symbol
                if every or position[symbol] != signals[i]:
                    if count == room or (busy[symbol] and not every):
                        break
                    busy[symbol] = <uint8_t>(position[symbol] + 2)
                    position[symbol] = signals[i]
                    orders[count] = <int32_t>i
                    count += 1
            i += 1
    return count, i


def tally(const int8_t[::1] signals):
    """``(buys, sells, holds)``.  ``ValueError`` for a signal that is none of +1, -1, 0."""
    cdef Py_ssize_t i, buys = 0, sells = 0
    cdef int strange = 0
    with nogil:
        for i in range(signals.shape[0]):
            buys += signals[i] > 0
            sells += signals[i] < 0
            strange |= signals[i] > 1 or signals[i] < -1
    if strange:
        raise ValueError("signals must be +1 (BUY), -1 (SELL) or 0 (HOLD)")
    return buys, sells, signals.shape[0] - buys - sells


def record_latency(uint64_t[::1] buckets, int64_t value_ns, uint64_t count=1):
    """Add to an HdrHistogram-style bucket array; too large a value lands in the last bucket."""
    cdef uint64_t index = histogram_index(<uint64_t>max(value_ns, 0))
    buckets[min(index, <uint64_t>buckets.shape[0] - 1)] += count


def record_ages(uint64_t[::1] buckets, const tick_record[::1] ticks, int64_t now_ns):
    """Add the age of every tick since its receipt (microsecond steps)."""
    cdef Py_ssize_t i = 0, j, n = ticks.shape[0]
    cdef uint32_t now_us = <uint32_t>(now_ns // 1000)
    while i < n:
        j = i + 1
        while j < n and ticks[j].recv_us == ticks[i].recv_us:
            j += 1
        record_latency(buckets, <int64_t><uint32_t>(now_us - ticks[i].recv_us) * 1000, j - i)
        i = j
