cdef enum:
    S_FLAT = 2  # the signal; the position it wants is 0

FLAT = S_FLAT
INVALID_SIGNAL = "signals must be +1 (BUY), -1 (SELL), 2 (FLAT) or 0 (HOLD)"


cdef class Intent:
    """An order that the strategy wants to send.

    ``seq`` and ``price`` are those of its tick; ``order_id`` follows from ``seq``.  ``signal`` is +1
    to buy, -1 to sell; ``target`` is the position after the order: +1 long, 0 flat, -1 short.
    """
    cdef readonly uint64_t seq, order_id
    cdef readonly int64_t event_ns
    cdef readonly uint32_t symbol_index
    cdef readonly str symbol
    cdef readonly int signal, target
    cdef readonly double price
    cdef readonly uint32_t recv_us

    def __init__(self, uint64_t seq, int64_t event_ns, uint32_t symbol_index, str symbol,
                 int signal, int target, double price, uint32_t recv_us, uint64_t order_id):
        self.seq, self.event_ns, self.symbol_index = seq, event_ns, symbol_index
        self.symbol, self.signal, self.target = symbol, signal, target
        self.price, self.recv_us, self.order_id = price, recv_us, order_id

    def __repr__(self):
        return (f"Intent(seq={self.seq}, signal={self.signal}, target={self.target}, "
                f"symbol={self.symbol!r}, price={self.price}, event_ns={self.event_ns})")


cdef class Tick:
    """One tick as a plain-Python strategy sees it.

    ``event_ns`` is int64 ns since the epoch; ``sentiment`` is 0 to 100, or -1 before the first.
    """
    cdef PyObject *symbol
    cdef PyObject *price
    cdef PyObject *sentiment
    cdef readonly int64_t event_ns
    cdef readonly uint64_t seq

    def __dealloc__(self):
        Py_XDECREF(self.symbol)
        Py_XDECREF(self.price)
        Py_XDECREF(self.sentiment)

    def __repr__(self):
        symbol, price, event_ns, seq, sentiment = values_of(self)
        return (f"Tick(symbol={symbol!r}, price={price}, event_ns={event_ns}, "
                f"seq={seq}, sentiment={sentiment})")

    def __reduce__(self):
        return _tick_of, values_of(self)

    cdef int take(self, const tick_record *record, list symbols, int sentiment) except -1:
        cdef PyObject *symbol = PyList_GET_ITEM(symbols, record.symbol)
        cdef PyObject *price = PyFloat_FromDouble(record.price)
        cdef PyObject *feeling = PyLong_FromLong(sentiment)  # small: none is made
        Py_XINCREF(symbol)
        # A reader of the old one holds a reference of its own.
        symbol, self.symbol = self.symbol, symbol
        price, self.price = self.price, price
        feeling, self.sentiment = self.sentiment, feeling
        self.event_ns, self.seq = record.event_ns, record.seq
        Py_XDECREF(symbol)
        Py_XDECREF(price)
        Py_XDECREF(feeling)
        return 0


cdef tuple values_of(Tick tick):
    """As :func:`_tick_of` takes them."""
    made = <object>tick
    return made.symbol, made.price, made.event_ns, made.seq, made.sentiment


def _tick_of(str symbol, double price, int64_t event_ns, uint64_t seq, int sentiment):
    """A copy of a tick; it has no index of its symbol, so the list has one."""
    cdef tick_record record
    cdef Tick tick = Tick.__new__(Tick)
    record.symbol, record.price, record.event_ns, record.seq = 0, price, event_ns, seq
    tick.take(&record, [symbol], sentiment)
    return tick


cdef PyMemberDef[3] TICK_MEMBERS


cdef int show_members() except -1:
    """Make a tick's attributes members, which the interpreter reads without a call."""
    cdef Tick tick = Tick.__new__(Tick)
    cdef char *start = <char *><PyObject *>tick
    cdef PyTypeObject *kind = <PyTypeObject *>Tick
    TICK_MEMBERS[0].name, TICK_MEMBERS[0].offset = "symbol", <char *>&tick.symbol - start
    TICK_MEMBERS[1].name, TICK_MEMBERS[1].offset = "price", <char *>&tick.price - start
    TICK_MEMBERS[2].name, TICK_MEMBERS[2].offset = "sentiment", <char *>&tick.sentiment - start
    for i in range(3):
        TICK_MEMBERS[i].type, TICK_MEMBERS[i].flags = T_OBJECT_EX, READONLY
        name = TICK_MEMBERS[i].name.decode()
        (<dict>kind.tp_dict)[name] = PyDescr_NewMember(kind, &TICK_MEMBERS[i])
    PyType_Modified(kind)
    return 0


show_members()


cdef enum:
    S_UNDECIDED = -128

UNDECIDED = S_UNDECIDED


def call_on_tick(on_tick, ticks, const int16_t[::1] sentiments, list symbols, int8_t[::1] signals):
    """Call ``on_tick(Tick)`` for each record; BUY, SELL, FLAT, HOLD or None: +1, -1, 2, 0."""
    cdef tick_span span = span_of(ticks)
    cdef Py_ssize_t i, count = len(symbols)
    cdef Tick tick = None
    for i in range(span.count):
        # The strategy has kept none of the last tick: its memory serves again.
        if tick is None or Py_REFCNT(tick) > 1:
            tick = Tick.__new__(Tick)
        if span.at[i].symbol >= count:
            raise IndexError(span.at[i].symbol)
        tick.take(&span.at[i], symbols, sentiments[i])
        signals[i] = S_UNDECIDED  # stays if on_tick raises
        answer = on_tick(tick)
        if answer is None or answer == "HOLD":
            signals[i] = 0
        elif answer == "BUY":
            signals[i] = 1
        elif answer == "SELL":
            signals[i] = -1
        elif answer == "FLAT":
            signals[i] = S_FLAT
        else:
            raise ValueError(f"on_tick returned {answer!r}: BUY, SELL, FLAT, HOLD or None")


cdef class OrderGate:
    """Decides which signals become orders, from one strategy's positions and unanswered orders.

    ``position`` is -1, 0 or +1 per symbol.  BUY wants +1, SELL -1, FLAT 0; a signal that wants the
    position it finds sends no order.  With ``every``, each BUY and SELL sends one, FLAT none.
    ``busy`` marks a symbol whose order has no answer yet: the position before the order, plus 2.
    The next signal of a busy symbol ends the batch, even if it is the same again, because whether
    it becomes an order depends on that answer.  The caller clears ``busy`` when it has the answers.
    """
    cdef int8_t[::1] position
    cdef uint8_t[::1] busy
    cdef list symbols
    cdef bint every
    cdef Py_ssize_t orders_max

    def __init__(self, int8_t[::1] position, uint8_t[::1] busy, list symbols, bint every,
                 Py_ssize_t orders_max):
        if orders_max < 1:
            raise ValueError(f"orders_max {orders_max}: must be at least 1")
        self.position, self.busy, self.symbols = position, busy, symbols
        self.every, self.orders_max = every, orders_max

    def intents(self, ticks, const int8_t[::1] signals, Py_ssize_t start):
        """The next orders, at most ``orders_max``, and the index of the tick to continue with.

        Raises:
            ValueError: a signal other than +1, -1, 2, 0; fewer ticks than signals.
            IndexError: a tick with an unknown symbol.
        """
        cdef tick_span span = span_of(ticks)
        cdef Py_ssize_t i = start, n = signals.shape[0]
        cdef const tick_record *tick
        cdef int8_t signal, target
        cdef Intent intent
        if span.count < n or start < 0:
            raise ValueError("ticks are fewer than signals")
        made = []
        while True:
            i = next_signal(signals, i)
            if i >= n:
                break
            with cython.boundscheck(False):
                signal = signals[i]
            if not -1 <= signal <= S_FLAT:
                raise ValueError(INVALID_SIGNAL)
            tick = &span.at[i]
            if self.busy[tick.symbol] and not self.every:
                break
            if self.every or self.position[tick.symbol] != signal:
                target = signal
                if signal == S_FLAT:
                    if self.every or self.position[tick.symbol] == 0:
                        i += 1
                        continue
                    target = 0
                if len(made) == self.orders_max:
                    break
                intent = Intent.__new__(Intent)
                intent.seq, intent.event_ns, intent.price = tick.seq, tick.event_ns, tick.price
                intent.order_id = tick.seq + 1
                intent.symbol_index, intent.recv_us = tick.symbol, tick.recv_us
                intent.symbol = <str>self.symbols[tick.symbol]
                intent.signal = target if target else -self.position[tick.symbol]
                intent.target = target
                made.append(intent)
                self.busy[tick.symbol] = <uint8_t>(self.position[tick.symbol] + 2)
                self.position[tick.symbol] = target
            i += 1
        return made, i


    def one_by_one(self, ticks, const int8_t[::1] signals):
        """The same orders, each decided on when it is read: settle it before the next.

        Raises:
            ValueError: as above, before the first.
            IndexError: as above, while it is read.
        """
        return IntentSearch(self, ticks, signals)


cdef class IntentSearch:
    """Iterates over the orders of a batch; leaves position and ``busy`` to its reader."""
    cdef OrderGate gate
    cdef object ticks  # keeps their memory
    cdef tick_span span
    cdef const int8_t[::1] signals
    cdef Py_ssize_t at

    def __init__(self, OrderGate gate, ticks, const int8_t[::1] signals):
        self.gate, self.ticks, self.signals = gate, ticks, signals
        self.span = span_of(ticks)
        tally(signals)
        if self.span.count < signals.shape[0]:
            raise ValueError("ticks are fewer than signals")

    def __iter__(self):
        return self

    def __next__(self):
        cdef OrderGate gate = self.gate
        cdef Py_ssize_t i = self.at, n = self.signals.shape[0]
        cdef const tick_record *tick
        cdef int8_t signal, held, target
        cdef Intent intent
        while True:
            i = next_signal(self.signals, i)
            if i >= n:
                break
            with cython.boundscheck(False):
                signal = self.signals[i]
            tick = &self.span.at[i]
            i += 1
            held = gate.position[tick.symbol]
            target = 0 if signal == S_FLAT else signal
            if (target == 0) if gate.every else (target == held):
                continue
            self.at = i
            intent = Intent.__new__(Intent)
            intent.seq, intent.event_ns, intent.price = tick.seq, tick.event_ns, tick.price
            intent.order_id = tick.seq + 1
            intent.symbol_index, intent.recv_us = tick.symbol, tick.recv_us
            intent.symbol = <str>gate.symbols[tick.symbol]
            intent.signal = target if target else -held
            intent.target = target
            return intent
        self.at = n
        raise StopIteration


def tally(const int8_t[::1] signals):
    """``(buys, sells, flats, holds)``.  ``ValueError`` for a signal other than +1, -1, 2, 0."""
    cdef Py_ssize_t i
    cdef uint32_t buys = 0, sells = 0, flats = 0
    cdef uint8_t bits = 0
    with nogil, cython.boundscheck(False):
        for i in range(signals.shape[0]):
            buys += signals[i] == 1
            sells += signals[i] < 0
            flats += signals[i] == S_FLAT
            bits |= <uint8_t>(signals[i] + 1)
    if bits > S_FLAT + 1:
        raise ValueError(INVALID_SIGNAL)
    return buys, sells, flats, signals.shape[0] - buys - sells - flats


def record_latency(uint64_t[::1] buckets, int64_t value_ns, uint64_t count=1):
    """Add to an array of HdrHistogram buckets; a value too large goes into the last one."""
    add_latency(buckets, value_ns, count)


cdef enum:
    AGES_STEP = 64


def record_ages(uint64_t[::1] buckets, ticks, int64_t now_ns):
    """Add every tick's age since its receipt, to the microsecond; receipts are in order."""
    cdef tick_span span = span_of(ticks)
    cdef Py_ssize_t i = 0, j
    cdef uint32_t now_us = <uint32_t>(now_ns // 1000), recv_us
    while i < span.count:
        recv_us = span.at[i].recv_us
        j = i + 1
        # Many are received together: those between two of one time have that time, too.
        while j + AGES_STEP <= span.count and span.at[j + AGES_STEP - 1].recv_us == recv_us:
            j += AGES_STEP
        while j < span.count and span.at[j].recv_us == recv_us:
            j += 1
        add_latency(buckets, <int64_t><uint32_t>(now_us - recv_us) * 1000, j - i)
        i = j
