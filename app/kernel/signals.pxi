# What the built-in strategy decides on: the sentiment stream, its join with ticks, moving averages.

cdef inline const uint8_t *read_seq_mark(const uint8_t *p, uint64_t *out) noexcept nogil:
    """``SEQ|n*`` with up to 18 digits; the frame is known to be complete.  Else NULL."""
    cdef uint64_t value = 0
    cdef int digits = 0
    if p[0] != 83 or p[1] != 69 or p[2] != 81 or p[3] != 124:
        return NULL
    p += 4
    while digits < 19 and 48 <= p[0] <= 57:
        value = value * 10 + (p[0] - 48)
        digits += 1
        p += 1
    if not 1 <= digits <= 18 or p[0] != STAR:
        return NULL
    out[0] = value
    return p + 1


def parse_sentiments(FieldParser parser, uint8_t[::1] buffer, Py_ssize_t start, Py_ssize_t end,
                     tick_record[::1] out, uint64_t complete_before):
    """As :func:`parse_ticks`, for sentiments from 0 to 100 and the marks ``SEQ|n*`` among them.

    A sentiment's ``seq`` is the highest mark before it, at least ``complete_before``: no lower tick
    may see it.  Returns ``(sentiments, position, stop, complete_before, marked)``: the highest mark,
    and how many sentiments stand before the last one (-1 without a mark).
    """
    cdef const uint8_t *base = parse_view(buffer, start, end)
    cdef const uint8_t *p = base + start
    cdef const uint8_t *last = base + end
    cdef const uint8_t *after
    cdef Py_ssize_t count = 0, marked = -1, room = out.shape[0]
    cdef tick_record *record = &out[0] if room else NULL
    cdef uint64_t mark = 0
    cdef int stop = -1
    with nogil:
        while count < room and stop < 0:
            stop = parser.read_tick(&p, last, True, &record[count])
            if stop < 0:
                record[count].seq = complete_before
                record[count].recv_us = 0
                count += 1
            elif stop == P_MARK:
                after = read_seq_mark(p, &mark)
                if after != NULL:
                    p, stop, marked = after, -1, count
                    complete_before = max(complete_before, mark)
    return count, p - base, stop if stop >= 0 else P_FULL, complete_before, marked


def join_sentiment(ticks, events, Py_ssize_t next_event, int16_t[::1] latest, int16_t[::1] out):
    """Write to ``out`` each tick's sentiment: its symbol's latest that the tick may see.

    A tick may see an event whose time and ``seq`` are not above its own.  ``events`` is in event
    order; ``latest`` keeps each symbol's sentiment between calls.  Returns the index of the next
    event.
    """
    cdef tick_span span = span_of(ticks), ahead = span_of(events)
    cdef Py_ssize_t i, k = next_event, symbols = latest.shape[0]
    cdef uint64_t symbol = 0
    cdef int64_t next_ns
    if out.shape[0] < span.count:
        raise ValueError("out is shorter than ticks")
    if next_event < 0:
        raise IndexError(next_event)
    with nogil, cython.boundscheck(False):
        next_ns = ahead.at[k].event_ns if k < ahead.count else INT64_MAX
        for i in range(span.count):
            if span.at[i].event_ns >= next_ns:
                while (k < ahead.count and ahead.at[k].event_ns <= span.at[i].event_ns
                        and ahead.at[k].seq <= span.at[i].seq):
                    symbol = ahead.at[k].symbol
                    if symbol >= <uint64_t>symbols:
                        break
                    latest[symbol] = <int16_t>ahead.at[k].price
                    k += 1
                next_ns = ahead.at[k].event_ns if k < ahead.count else INT64_MAX
            symbol = max(symbol, span.at[i].symbol)
            if symbol >= <uint64_t>symbols:
                break
            out[i] = latest[span.at[i].symbol]
    if symbol >= <uint64_t>symbols and span.count:
        raise IndexError(symbol)
    return k


cdef struct averages:
    # The difference: the sum of the short window times ``long_ticks``, less that of the long one
    # times ``short_ticks``; its sign is the signal.  Its halves are apart, because one store of both
    # makes the CPU wait when the next tick of the symbol reads them.
    uint64_t low
    Py_ssize_t at       # where the next price goes
    Py_ssize_t leaving  # index of the price that then leaves the short window
    Py_ssize_t missing  # ticks until the long window is full
    int64_t high        # only of wide ones; else all of the difference is in ``low``


cdef inline int step(averages *own, int64_t *window, Py_ssize_t long_ticks,
                     int64_t price) noexcept nogil:
    """The price into its window; returns whether the long window is full now."""
    cdef Py_ssize_t at = own.at, leaving = own.leaving
    window[at] = price
    own.at = at + 1 if at + 1 < long_ticks else 0
    own.leaving = leaving + 1 if leaving + 1 < long_ticks else 0
    if own.missing > 1:
        own.missing -= 1
        return False
    return True


cdef inline int add(averages *own, int64_t *window, Py_ssize_t short_ticks, Py_ssize_t long_ticks,
                    int64_t price) noexcept nogil:
    """+1: short above long; -1: below; 0: equal, or the long window is not full."""
    # Unsigned: a product may leave 64 bits, the difference is back in them.
    cdef uint64_t low = (own.low + <uint64_t>(price - window[own.leaving]) * <uint64_t>long_ticks
                         - <uint64_t>(price - window[own.at]) * <uint64_t>short_ticks)
    own.low = low
    return step(own, window, long_ticks, price) * ((<int64_t>low > 0) - (<int64_t>low < 0))


cdef inline int add_wide(averages *own, int64_t *window, Py_ssize_t short_ticks,
                         Py_ssize_t long_ticks, int64_t price) noexcept nogil:
    """As :func:`add`, in 128 bits."""
    # Prices are below 2**63, so the difference of two fits, and its product is one instruction.
    cdef int128 change = (<int128>(price - window[own.leaving]) * long_ticks
                          - <int128>(price - window[own.at]) * short_ticks)
    cdef uint64_t low = own.low + <uint64_t>change
    cdef int64_t high = own.high + <int64_t>(change >> 64) + (low < <uint64_t>change)
    own.low, own.high = low, high
    if not step(own, window, long_ticks, price):
        return 0
    return 1 - 2 * (high < 0) if high | <int64_t>low else 0


cdef inline int8_t agreed(int signal, const int16_t *moods, Py_ssize_t at, int bullish,
                          int bearish) noexcept nogil:
    """The signal, or 0 if the sentiment there does not agree; without any, the signal."""
    if moods == NULL or signal == (moods[at] > bullish) - (0 <= moods[at] < bearish):
        return <int8_t>signal
    return 0


cdef class CrossAverage:
    """Short and long moving average of every symbol, exact: prices are int64 in units of 1e-9.

    The difference of two averages has 64 bits up to the first price that could take more, and 128
    from there on: up to 92 million currency units with windows of 5 and 20 ticks.
    """
    cdef int64_t *window
    cdef averages *of_symbol
    cdef uint64_t narrow_max  # the largest price whose sums, times a window, fit 64 bits
    cdef bint wide
    cdef readonly Py_ssize_t count, short_ticks, long_ticks

    def __cinit__(self, Py_ssize_t count, Py_ssize_t short_ticks, Py_ssize_t long_ticks):
        if not 0 < short_ticks < long_ticks:
            raise ValueError(f"short window {short_ticks} must be above 0, below {long_ticks}")
        if count < 0 or long_ticks > (<Py_ssize_t>1 << 40) // (count + 1):
            raise MemoryError(f"{count} windows of {long_ticks} ticks")
        self.count, self.short_ticks, self.long_ticks = count, short_ticks, long_ticks
        # Zeros: subtracting them while a window fills changes no sum.
        self.window = <int64_t *>calloc(count * long_ticks + 1, sizeof(int64_t))
        self.of_symbol = <averages *>calloc(count + 1, sizeof(averages))
        if self.window == NULL or self.of_symbol == NULL:
            raise MemoryError
        for i in range(count):
            self.of_symbol[i].leaving = long_ticks - short_ticks
            self.of_symbol[i].missing = long_ticks
        # Each of the two products is at most short_ticks * long_ticks prices.
        self.narrow_max = <uint64_t>INT64_MAX // <uint64_t>long_ticks // <uint64_t>short_ticks

    def __dealloc__(self):
        free(self.window)
        free(self.of_symbol)

    cdef void widen(self) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.count):
            self.of_symbol[i].high = -(<int64_t>self.of_symbol[i].low < 0)
        self.wide = True

    def signals(self, ticks, int8_t[::1] out):
        """The moving averages' signal for each tick."""
        self.fill(span_of(ticks), NULL, 0, 0, out)

    def agree(self, ticks, const int16_t[::1] sentiments, int bullish, int bearish,
              int8_t[::1] out):
        """The averages' signal where the sentiment agrees with it, else 0."""
        cdef tick_span span = span_of(ticks)
        if sentiments.shape[0] < span.count:
            raise ValueError("sentiments are shorter than ticks")
        self.fill(span, &sentiments[0] if span.count else NULL, bullish, bearish, out)

    cdef int fill(self, tick_span span, const int16_t *moods, int bullish, int bearish,
                  int8_t[::1] out) except -1:
        """Without ``moods``, the averages' signal counts alone."""
        cdef Py_ssize_t i, done = 0, symbol
        cdef int signal
        if out.shape[0] < span.count:
            raise ValueError("out is shorter than ticks")
        for i in range(span.count):
            if <Py_ssize_t>span.at[i].symbol >= self.count:
                raise IndexError(span.at[i].symbol)
        with nogil, cython.boundscheck(False):
            if not self.wide:
                done = self.fill_narrow(span, moods, bullish, bearish, &out[0])
            if self.wide:
                for i in range(done, span.count):
                    symbol = span.at[i].symbol
                    signal = add_wide(
                        &self.of_symbol[symbol], self.window + symbol * self.long_ticks,
                        self.short_ticks, self.long_ticks, llrint(span.at[i].price * 1e9))
                    out[i] = agreed(signal, moods, i, bullish, bearish)
        return 0

    cdef Py_ssize_t fill_narrow(self, tick_span span, const int16_t *moods, int bullish,
                                int bearish, int8_t *out) noexcept nogil:
        """Up to the first price that needs more bits; returns its index."""
        # In registers: a store into a window might change what ``self`` has.
        cdef Py_ssize_t i, symbol
        cdef Py_ssize_t short_ticks = self.short_ticks, long_ticks = self.long_ticks
        cdef uint64_t narrow_max = self.narrow_max
        cdef averages *of_symbol = self.of_symbol
        cdef int64_t *window = self.window
        cdef int64_t price
        cdef int signal
        for i in range(span.count):
            symbol = span.at[i].symbol
            price = llrint(span.at[i].price * 1e9)
            if <uint64_t>price > narrow_max:
                self.widen()
                return i
            signal = add(
                &of_symbol[symbol], window + symbol * long_ticks, short_ticks, long_ticks, price)
            out[i] = agreed(signal, moods, i, bullish, bearish)
        return span.count
