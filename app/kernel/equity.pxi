cdef struct trade:
    uint64_t seq
    int64_t event_ns, price, qty  # in units of 1e-9; signed
    uint32_t symbol


cdef struct holding:
    int128 cost, realized, turnover
    int64_t qty, mark
    uint64_t last   # the number of its latest trade, from 1; 0: none


cdef int128 AMOUNT_MAX = <int128>1 << 120
cdef int64_t QTY_MAX = 1ll << 53, HELD_MAX = 1ll << 61
cdef double FLOAT_EXACT = 2e6


cdef object int_of(int128 number):
    """As Python has it."""
    cdef int64_t high = <int64_t>(number >> 64)
    return (<object>high << 64) + <object><uint64_t>number


cdef int128 int128_of(object number) except? -1:
    """``OverflowError`` for what has no room."""
    cdef int64_t high = number >> 64
    return (<int128>high << 64) | <int128><uint64_t>(number & 0xFFFFFFFFFFFFFFFF)


cdef class Trades:
    """Orders that execute at once, as they ask, at their tick's price; and what is held after them.

    Amounts and quantities are integers, as ``app.model.position.Position`` has them.  ``units_of``:
    a price in units of 1e-9; called for those that are so high that a float's product is not exact.
    """
    cdef holding *of_symbol
    cdef trade *row
    cdef Py_ssize_t symbols, count, room
    cdef uint64_t forgotten
    cdef int64_t order_qty
    cdef double factor
    cdef object units_of

    def __init__(self, Py_ssize_t symbols, int64_t order_qty, double factor, units_of):
        """``order_qty`` in units; ``factor``: how many of them are a quantity of 1."""
        if self.of_symbol != NULL or symbols < 0 or factor < 1:
            raise ValueError(f"{symbols} symbols, factor {factor}")
        self.of_symbol = <holding *>calloc(symbols + 1, sizeof(holding))
        if self.of_symbol == NULL:
            raise MemoryError
        self.symbols, self.order_qty, self.factor = symbols, order_qty, factor
        self.units_of = units_of

    def __dealloc__(self):
        free(self.of_symbol)
        free(self.row)

    def __len__(self):
        return self.count

    def load(self, Py_ssize_t symbol, qty, cost, realized, turnover):
        """What is held of a symbol before its first trade.

        Numbers that are too large for this class let it take no trade of the symbol.
        """
        cdef holding *own
        if not 0 <= symbol < self.symbols:
            raise IndexError(symbol)
        own = &self.of_symbol[symbol]
        if max(abs(cost), abs(realized), turnover) > int_of(AMOUNT_MAX) or abs(qty) > HELD_MAX:
            own.turnover = AMOUNT_MAX + 1
            return
        own.qty, own.cost = qty, int128_of(cost)
        own.realized, own.turnover = int128_of(realized), int128_of(turnover)

    def take(self, IntentSearch search, list held):
        """Execute the orders of a search, and settle each in ``held`` and its gate's positions.

        ``held``: units per symbol, nothing if each signal is an order.  False: the next order of
        the search is too large for this class, so it and all after it are for others.
        """
        cdef OrderGate gate = search.gate
        cdef Py_ssize_t i = search.at, n = search.signals.shape[0]
        cdef const tick_record *tick
        cdef int8_t signal, position, target, side
        cdef int64_t have, qty, price
        while True:
            i = next_signal(search.signals, i)
            if i >= n:
                break
            with cython.boundscheck(False):
                signal = search.signals[i]
            tick = &search.span.at[i]
            position = gate.position[tick.symbol]
            target = 0 if signal == S_FLAT else signal
            if (target == 0) if gate.every else (target == position):
                i += 1
                continue
            search.at = i
            have, qty, side = 0, self.order_qty, target if target else -position
            if not gate.every:
                have = held[tick.symbol]
                qty = target * self.order_qty - have
                qty = qty if qty > 0 else -qty
            if tick.symbol >= self.symbols:
                raise IndexError(tick.symbol)
            price = llrint(tick.price * 1e9) if tick.price < FLOAT_EXACT else self.units_of(tick.price)
            if not self.execute(&self.of_symbol[tick.symbol], side, qty, price):
                return False
            self.add(tick, side * qty, price)
            if not gate.every:
                have += side * qty
                held[tick.symbol] = have
                gate.position[tick.symbol] = (have > 0) - (have < 0)
            i += 1
        search.at = n
        return True

    cdef bint execute(self, holding *own, int side, int64_t qty, int64_t price) noexcept nogil:
        """As ``Position.apply``; False, and nothing is done: the numbers are too large."""
        cdef int128 notional, paid, closing, released
        cdef int64_t held = own.qty, size = held if held > 0 else -held
        if not 0 < qty <= QTY_MAX or price < 0 or size > HELD_MAX or own.turnover > AMOUNT_MAX:
            return False
        notional = <int128>qty * price
        paid = notional if side > 0 else -notional
        if held == 0 or (held > 0) == (side > 0):
            own.cost += paid
        elif qty == size:
            own.realized -= paid + own.cost
            own.cost = 0
        elif qty > size:
            closing = <int128>size * price if side > 0 else -(<int128>size * price)
            own.realized -= closing + own.cost
            own.cost = paid - closing
        else:
            # Of a product of three numbers 128 bits may be too few.
            if size % qty or (own.cost < 0) != (held < 0):
                return False
            released = own.cost / (size // qty)  # toward zero
            own.realized -= paid + released
            own.cost -= released
        own.qty = held + qty if side > 0 else held - qty
        own.mark = price
        own.turnover += notional
        return True

    cdef int add(self, const tick_record *tick, int64_t qty, int64_t price) except -1:
        cdef trade *row
        if self.count == self.room:
            row = <trade *>realloc(self.row, (2 * self.room + 256) * sizeof(trade))
            if row == NULL:
                raise MemoryError
            self.row, self.room = row, 2 * self.room + 256
        row = &self.row[self.count]
        row.seq, row.event_ns, row.symbol = tick.seq, tick.event_ns, tick.symbol
        row.qty, row.price = qty, price
        self.count += 1
        self.of_symbol[tick.symbol].last = self.forgotten + self.count
        return 0

    def rows(self, Py_ssize_t first, Py_ssize_t end):
        """``(seq, event_ns, symbol, signed qty, price)`` of these trades, in order."""
        cdef trade *row
        made = []
        for i in range(max(first, 0), min(end, self.count)):
            row = &self.row[i]
            made.append((row.seq, row.event_ns, row.symbol, row.qty, row.price))
        return made

    def changed(self, Py_ssize_t first):
        """What is held of each symbol of the trades from ``first`` on, in their order.

        ``(symbol, qty, cost, realized, turnover, mark, last trade)``.
        """
        cdef Py_ssize_t i
        cdef holding *own
        made = {}
        for i in range(max(first, 0), self.count):
            symbol = self.row[i].symbol
            if symbol not in made:
                own = &self.of_symbol[self.row[i].symbol]
                made[symbol] = (
                    symbol, own.qty, int_of(own.cost), int_of(own.realized), int_of(own.turnover),
                    own.mark, own.last - self.forgotten - 1)
        return list(made.values())

    def forget(self):
        """Keep what is held, but none of the trades."""
        self.forgotten += self.count
        self.count = 0


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
        self.add(symbol, fill[2], fill[3], fill[4], fill[7])
        if self.a_ns:
            self.short[symbol] = fill[8]
            self.since_ns[symbol] = fill[9]
        return 0

    cdef inline int add(self, Py_ssize_t symbol, double qty, double price, double fee,
                        double borrow) except -1:
        self.qty[symbol] += qty
        self.cash -= qty * price + fee + borrow
        return 0

    cdef int take_trade(self, Trades trades, Py_ssize_t at) except -1:
        cdef trade *row = &trades.row[at]
        return self.add(
            row.symbol, <double>row.qty / trades.factor, <double>row.price / 1e9, 0.0, 0.0)

    def follow(self, ticks, fills, Py_ssize_t at, list event_ns, list equity):
        """Take ticks, and the fills from ``at`` on that are theirs; returns the next one's index.

        ``fills``: a list, or :class:`Trades` where shorts cost nothing.  After each tick whose
        ``seq`` ends a step, its time and the equity are added to the lists.
        """
        cdef tick_span span = span_of(ticks)
        cdef const tick_record *tick
        cdef Trades trades = fills if isinstance(fills, Trades) else None
        cdef list listed = None if trades is not None else fills
        cdef Py_ssize_t i, last = len(fills)
        cdef uint64_t step = self.step, left
        cdef uint64_t next_fill
        if at < 0:
            raise IndexError(at)
        next_fill = seq_of(listed, trades, at, last)
        if not span.count:
            return at
        left = step - span.at[0].seq % step
        for i in range(span.count):
            tick = &span.at[i]
            self._price[tick.symbol] = tick.price
            if self.a_ns:
                self._last_ns[tick.symbol] = tick.event_ns
            while next_fill <= tick.seq:
                if trades is None:
                    self.take(<tuple>listed[at])
                else:
                    self.take_trade(trades, at)
                at += 1
                next_fill = seq_of(listed, trades, at, last)
            left -= 1
            if left == 0:
                left = step
                event_ns.append(tick.event_ns)
                equity.append(self.equity())
        return at


cdef inline uint64_t seq_of(list listed, Trades trades, Py_ssize_t at, Py_ssize_t last) except? 0:
    """Of the fill ``at``; none beyond the last is ever due."""
    if at >= last:
        return ~<uint64_t>0
    return (<tuple>listed[at])[0] if trades is None else trades.row[at].seq
