cdef class Worth:
    """What a run's holdings are worth along its ticks: shares at their latest prices, and cash.

    ``a_ns``: what a short costs in a nanosecond, as a share of what it was sold for.
    """
    cdef readonly object price, last_ns
    cdef double[::1] _price, qty, short
    cdef int64_t[::1] _last_ns, since_ns
    cdef double cash, a_ns
    cdef Py_ssize_t step

    def __init__(self, price, last_ns, double a_ns, Py_ssize_t step):
        """``price``, ``last_ns``: arrays with a value per symbol, which it keeps up to date."""
        import numpy
        self.price, self.last_ns = price, last_ns
        self._price, self._last_ns = price, last_ns
        count = len(price)
        self.qty, self.short = numpy.zeros(count), numpy.zeros(count)
        self.since_ns = numpy.zeros(count, numpy.int64)
        if len(last_ns) != count or step < 1:
            raise ValueError(f"{count} prices, {len(last_ns)} times, step {step}")
        self.a_ns, self.step = a_ns, step

    cpdef double equity(self):
        """The profit since the start, if all were sold at the latest prices."""
        cdef double worth = 0.0, owed = 0.0
        cdef Py_ssize_t i
        with cython.boundscheck(False):
            for i in range(self._price.shape[0]):
                worth += self.qty[i] * self._price[i]
            if self.a_ns:
                for i in range(self._price.shape[0]):
                    if self.short[i] and self._last_ns[i] > self.since_ns[i]:
                        owed += self.short[i] * <double>(self._last_ns[i] - self.since_ns[i])
        return self.cash + worth - self.a_ns * owed

    cdef int take(self, tuple fill) except -1:
        """``seq, symbol, signed qty, price, fee, slippage, impact, borrow, short, event_ns``."""
        cdef Py_ssize_t symbol = fill[1]
        cdef double qty = fill[2]
        cdef double price = fill[3], fee = fill[4], borrow = fill[7]
        self.qty[symbol] += qty
        self.cash -= qty * price + fee + borrow
        if self.a_ns:
            self.short[symbol] = fill[8]
            self.since_ns[symbol] = fill[9]
        return 0

    def follow(self, ticks, list fills, Py_ssize_t at, list event_ns, list equity):
        """Take ticks, and the fills from ``at`` on that are theirs; returns the next one's index.

        After each tick whose ``seq`` ends a step, its time and the equity are added to the lists.
        """
        cdef tick_span span = span_of(ticks)
        cdef const tick_record *tick
        cdef Py_ssize_t i, last = len(fills)
        cdef uint64_t none = ~<uint64_t>0, step = self.step, left
        cdef uint64_t next_fill = <uint64_t>(<tuple>fills[at])[0] if at < last else none
        if not span.count:
            return at
        left = step - span.at[0].seq % step
        for i in range(span.count):
            tick = &span.at[i]
            self._price[tick.symbol] = tick.price
            if self.a_ns:
                self._last_ns[tick.symbol] = tick.event_ns
            while next_fill <= tick.seq:
                self.take(<tuple>fills[at])
                at += 1
                next_fill = <uint64_t>(<tuple>fills[at])[0] if at < last else none
            left -= 1
            if left == 0:
                left = step
                event_ns.append(tick.event_ns)
                equity.append(self.equity())
        return at
