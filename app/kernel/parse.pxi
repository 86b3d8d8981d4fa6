# Text fields.  Each reader starts at a field's first byte and returns the position after its
# delimiter, or NULL.  Sentinel delimiters after the end of the data stop every loop.

cdef inline int two_digits(const uint8_t *p) noexcept nogil:
    cdef uint32_t high = p[0] - 48u, low = p[1] - 48u
    return -1 if high > 9 or low > 9 else <int>(high * 10 + low)


cdef inline int64_t days_from_civil(int64_t year, int month, int day) noexcept nogil:
    """Days since 1970-01-01 (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms")."""
    cdef int64_t y = year - (1 if month <= 2 else 0)
    cdef int64_t era = y // 400 if y >= 0 else (y - 399) // 400
    cdef int64_t yoe = y - era * 400
    cdef int64_t doy = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + yoe * 365 + yoe // 4 - yoe // 100 + doy - 719468


cdef int64_t minute_start_ns(const uint8_t *p) noexcept nogil:
    """``YYYY-MM-DD HH:MM`` in ns since the epoch, or -1 (years 1970 to 2261 fit int64 ns)."""
    cdef int c = two_digits(p), y = two_digits(p + 2), m = two_digits(p + 5), d = two_digits(p + 8)
    cdef int hh = two_digits(p + 11), mm = two_digits(p + 14), last
    cdef bint leap
    if (c < 0 or y < 0 or m < 1 or m > 12 or d < 1 or hh < 0 or hh > 23 or mm < 0 or mm > 59
            or p[4] != 45 or p[7] != 45 or (p[10] != 32 and p[10] != 84) or p[13] != 58):
        return -1
    y += c * 100
    leap = y % 4 == 0 and (y % 100 != 0 or y % 400 == 0)
    last = 30 + ((m + (m >> 3)) & 1) if m != 2 else (29 if leap else 28)
    if y < 1970 or y > 2261 or d > last:
        return -1
    return ((days_from_civil(y, m, d) * 24 + hh) * 60 + mm) * 60 * 1000000000


cdef const uint8_t *read_price(const uint8_t *p, double *out) noexcept nogil:
    """Decimal text (digits, point, exponent; no sign, no spaces) as the nearest double.

    NULL unless it is from 1e-9, the unit of money, to MAX_PRICE.
    """
    cdef const uint8_t *start = p
    cdef uint64_t mantissa = 0
    cdef uint32_t digit
    cdef int digits = 0, point = -1
    cdef char *end
    cdef double value
    while True:
        digit = p[0] - 48u
        if digit <= 9:
            mantissa = mantissa * 10 + digit
            digits += 1
        elif p[0] == 46 and point < 0:
            point = digits
        else:
            break
        p += 1
    if p[0] == STAR and 0 < digits <= 18 and mantissa < (1ull << 53):
        # Below 2**53 both operands are exact doubles, so the division rounds only once.
        value = <double>mantissa
        if point >= 0:
            value /= POWER_OF_TEN[digits - point]
    else:
        if digits == 0 or (p[0] != STAR and p[0] != 69 and p[0] != 101):
            return NULL
        value = decimal_to_double(<const char *>start, &end)
        p = <const uint8_t *>end
        if p[0] != STAR or p - start > MAX_PRICE_TEXT_BYTES:
            return NULL
    if not MIN_PRICE <= value <= MAX_PRICE:
        return NULL
    out[0] = value
    return p + 1


cdef const uint8_t *read_percent(const uint8_t *p, double *out) noexcept nogil:
    """An integer from 0 to 100 of one to three digits."""
    cdef int value = 0, digits = 0
    while digits < 4 and 48 <= p[0] <= 57:
        value = value * 10 + (p[0] - 48)
        digits += 1
        p += 1
    if digits == 0 or digits > 3 or value > 100 or p[0] != STAR:
        return NULL
    out[0] = value
    return p + 1


cdef struct symbol_entry:
    uint64_t head  # as in symbol_key
    uint32_t tail
    int32_t index  # plus 1; 0: free


cdef struct symbol_text:
    const uint8_t *tick  # start of its tick
    const uint8_t *text
    uint64_t head, slot
    uint32_t tail


cdef class FieldParser:
    """Parses ``timestamp*symbol*value*`` against a fixed symbol list."""
    cdef symbol_entry *table
    cdef uint8_t *names  # of all symbols, SYMBOL_BYTES_MAX bytes each
    cdef int shift
    cdef uint64_t mask
    cdef uint64_t minute_head, minute_tail
    cdef int64_t minute_ns, second_ns
    cdef uint64_t second_text
    cdef readonly int symbol_count

    def __cinit__(self, symbols):
        cdef uint64_t size = 64
        if len(symbols) > SYMBOLS_MAX:
            raise ValueError(f"{len(symbols)} symbols, at most {SYMBOLS_MAX}")
        self.symbol_count = len(symbols)
        while size < <uint64_t>self.symbol_count * 3:
            size *= 2
        self.mask = size - 1
        self.shift = 64 - (size.bit_length() - 1)
        self.table = <symbol_entry *>calloc(size, sizeof(symbol_entry))
        self.names = <uint8_t *>calloc(self.symbol_count + 1, SYMBOL_BYTES_MAX_C)
        if self.table == NULL or self.names == NULL:
            raise MemoryError
        memcpy(&self.minute_head, b"1970-01-", 8)
        memcpy(&self.minute_tail, b"01 00:00", 8)
        self.minute_ns = 0
        self.second_text = NO_TEXT

    def __init__(self, symbols):
        cdef symbol_key key
        cdef uint64_t at
        cdef const uint8_t *text
        for index, symbol in enumerate(symbols):
            raw = symbol.encode() if isinstance(symbol, str) else symbol
            if not 0 < len(raw) <= SYMBOL_BYTES_MAX_C:
                raise ValueError(
                    f"symbol {symbol!r}: 1 to {SYMBOL_BYTES_MAX_C} bytes, got {len(raw)}")
            padded = raw.ljust(SYMBOL_BYTES_MAX_C, b"\0")
            text = padded
            key = key_of(text, len(raw))
            at = self.find_slot(key.head, key.tail, text, self.first_slot(key.head, key.tail))
            if self.table[at].index:
                raise ValueError(f"symbol {symbol!r} twice")
            self.table[at] = symbol_entry(key.head, key.tail, index + 1)
            memcpy(self.names + <Py_ssize_t>index * SYMBOL_BYTES_MAX_C, text, SYMBOL_BYTES_MAX_C)

    def __dealloc__(self):
        free(self.table)
        free(self.names)

    cdef inline uint64_t first_slot(self, uint64_t head, uint32_t tail) noexcept nogil:
        """The symbol's slot in the hash table, if it is not taken by another."""
        return ((head ^ tail) * 0x9E3779B97F4A7C15ull) >> self.shift

    cdef inline bint is_other(self, symbol_entry *entry, uint64_t head, uint32_t tail,
                              const uint8_t *text) noexcept nogil:
        """Whether an entry is another symbol's; ``text`` is looked at if the symbol is a long one."""
        if entry.head != head or entry.tail != tail:
            return entry.index != 0
        return tail >= HASHED_TAIL and not is_symbol(
            self.names + <Py_ssize_t>(entry.index - 1) * SYMBOL_BYTES_MAX_C, text, tail)

    cdef inline uint64_t find_slot(self, uint64_t head, uint32_t tail, const uint8_t *text,
                                   uint64_t at) noexcept nogil:
        """The symbol's slot, or the free one where it would be; ``at`` is its ``first_slot``."""
        while self.is_other(&self.table[at], head, tail, text):
            at = (at + 1) & self.mask
        return at

    cdef inline const uint8_t *read_symbol(self, const uint8_t *p, int32_t *out) noexcept nogil:
        cdef int length = symbol_length(p)
        cdef symbol_key key
        cdef uint64_t at
        if length <= 0:
            return NULL
        key = key_of(p, length)
        at = self.find_slot(key.head, key.tail, p, self.first_slot(key.head, key.tail))
        out[0] = self.table[at].index - 1
        return p + length + 1 if out[0] >= 0 else NULL

    cdef inline const uint8_t *read_time(self, const uint8_t *p, int64_t *out) noexcept nogil:
        """``YYYY-MM-DD[ T]HH:MM:SS[.f{1,9}][Z]``; caches minute and second, as feeds repeat them."""
        cdef uint64_t head, tail
        cdef uint32_t text
        cdef int64_t ns, fraction = 0
        cdef int seconds, digits = 0
        memcpy(&head, p, 8)
        memcpy(&tail, p + 8, 8)
        if head != self.minute_head or tail != self.minute_tail:
            ns = minute_start_ns(p)
            if ns < 0:
                return NULL
            self.minute_head, self.minute_tail, self.minute_ns = head, tail, ns
            self.second_text = NO_TEXT
        memcpy(&text, p + 16, 4)
        if text == self.second_text:
            out[0] = self.second_ns
            return p + 20
        seconds = two_digits(p + 17)
        if p[16] != 58 or seconds < 0 or seconds > 59:
            return NULL
        ns = self.minute_ns + seconds * 1000000000ll
        p += 19
        if p[0] == 46:
            p += 1
            while digits < 10 and 48 <= p[0] <= 57:
                fraction = fraction * 10 + (p[0] - 48)
                digits += 1
                p += 1
            if digits == 0 or digits > 9:
                return NULL
            ns += fraction * NANOS_PER_FRACTION[digits]
        if p[0] == 90:
            p += 1
        if p[0] != STAR:
            return NULL
        if text >> 24 == STAR:
            self.second_text, self.second_ns = text, ns
        out[0] = ns
        return p + 1

    cdef inline const uint8_t *read_fast(self, const uint8_t *p, tick_record *out,
                                          symbol_text *symbol) noexcept nogil:
        """A price tick with a short price without exponent; else NULL.

        NULL is not an error: :meth:`read_tick` must parse the tick.  No branch depends on a length
        that differs from tick to tick, so the CPU works on several ticks at once.
        :meth:`read_ticks` looks the symbol up.
        """
        cdef tick_fields fields
        cdef symbol_key key
        symbol.tick = p
        p = self.read_time(p, &out.event_ns)
        if p == NULL:
            return NULL
        symbol.text = p
        symbol.head = load_text(p)
        p = read_symbol_and_price(p, &fields)
        if p != NULL:
            symbol.head = first_bytes(symbol.head, fields.symbol_bytes)
            symbol.tail = <uint32_t>fields.symbol_bytes << TAIL_LENGTH_SHIFT
        else:
            p = read_long_symbol_and_price(symbol.text, &fields)
            if p == NULL:
                return NULL
            key = key_of(symbol.text, fields.symbol_bytes)
            symbol.head, symbol.tail = key.head, key.tail
        if fields.digits >= (1ull << 53):
            return NULL
        symbol.slot = self.first_slot(symbol.head, symbol.tail)
        prefetch(&self.table[symbol.slot])
        out.price = <double>fields.digits / POWER_OF_TEN[fields.fraction]  # as in read_price
        return p if MIN_PRICE <= out.price <= MAX_PRICE else NULL

    cdef int read_ticks(self, const uint8_t **at, const uint8_t *end, tick_record *ring,
                        uint64_t mask, uint64_t *position, uint64_t goal,
                        book_slot *book) noexcept nogil:
        """Parse at most BLOCK_TICKS price ticks, from ``ring[position & mask]`` on, up to ``goal``.

        Returns -1, or why it stopped, as :meth:`read_tick`.  Prefetches the ticks' slots of
        ``book`` into the cache.
        """
        cdef symbol_text[BLOCK_TICKS] symbol
        cdef const uint8_t *p = at[0]
        cdef const uint8_t *after
        cdef uint64_t upto = min(goal, position[0] + BLOCK_TICKS), count, k, slot
        cdef tick_record *record
        cdef int stop = -1
        while position[0] < upto and stop < 0:
            count = 0
            while HAVE_VECTORS and position[0] + count < upto and p < end:
                after = self.read_fast(p, &ring[(position[0] + count) & mask], &symbol[count])
                if after == NULL or after > end:
                    break
                p = after
                count += 1
            # In a loop of its own, so that the cache misses of a large table overlap.
            for k in range(count):
                slot = self.find_slot(symbol[k].head, symbol[k].tail, symbol[k].text, symbol[k].slot)
                if not self.table[slot].index:
                    p, count = symbol[k].tick, k
                    break
                slot = self.table[slot].index - 1
                ring[(position[0] + k) & mask].symbol = <uint16_t>slot
                if book != NULL:
                    prefetch(&book[slot])
            position[0] += count
            if position[0] < upto:
                at[0] = p
                record = &ring[position[0] & mask]
                stop = self.read_tick(at, end, False, record)
                p = at[0]
                if stop < 0:
                    if book != NULL:
                        prefetch(&book[record.symbol])
                    position[0] += 1
        at[0] = p
        return stop

    cdef inline int read_tick(self, const uint8_t **at, const uint8_t *end, bint percent,
                              tick_record *out) noexcept nogil:
        """Parse one tick; ``at`` moves past it, or to the malformed field.

        An error is NEED_MORE until all three delimiters of the tick have arrived: before that, the
        sentinels or the missing rest may have caused it.
        """
        cdef const uint8_t *start = at[0]
        cdef const uint8_t *p
        cdef int32_t symbol = 0
        cdef int problem = P_BAD_TIMESTAMP
        if start >= end:
            return P_NEED_MORE
        p = self.read_time(start, &out.event_ns)
        if p != NULL:
            at[0] = p
            problem = P_BAD_SYMBOL
            p = self.read_symbol(p, &symbol)
            if p != NULL:
                at[0] = p
                problem = P_BAD_SENTIMENT if percent else P_BAD_PRICE
                p = read_percent(p, &out.price) if percent else read_price(p, &out.price)
                if p != NULL:
                    if p <= end:
                        out.symbol = <uint16_t>symbol
                        at[0] = p
                        return -1
                    at[0] = start
                    return P_NEED_MORE
        p = start
        if 65 <= p[0] <= 90:  # a mark (SEQ|, END|): one frame, complete or not yet
            at[0] = start
            return P_MARK if memchr(p, STAR, end - p) != NULL else P_NEED_MORE
        for _ in range(3):
            p = <const uint8_t *>memchr(p, STAR, end - p) if p < end else NULL
            if p == NULL:
                at[0] = start
                return P_NEED_MORE
            p += 1
        return problem


cdef const uint8_t *parse_view(uint8_t[::1] buffer, Py_ssize_t start, Py_ssize_t end) except NULL:
    """Check the bounds, write the sentinels, return the buffer's address."""
    if not 0 <= start <= end <= buffer.shape[0] - SLACK_BYTES:
        raise ValueError(
            f"parse of {start}:{end} in {buffer.shape[0]} bytes; {SLACK_BYTES} must follow")
    memset(&buffer[end], STAR, SLACK_BYTES)
    return &buffer[0]


def parse_ticks(FieldParser parser, uint8_t[::1] buffer, Py_ssize_t start, Py_ssize_t end,
                tick_record[::1] out, uint64_t first_seq=0):
    """Parse ``buffer[start:end]`` into ``out``; return ``(ticks, position, stop)``.

    ``stop`` is the reason (NEED_MORE, FULL, MARK, BAD_*); ``position`` is the first byte not
    consumed, or the first byte of the malformed field.
    """
    cdef const uint8_t *base = parse_view(buffer, start, end)
    cdef const uint8_t *p = base + start
    cdef const uint8_t *last = base + end
    cdef uint64_t count = 0, room = out.shape[0], k
    cdef tick_record *record = &out[0] if room else NULL
    cdef int stop = -1
    with nogil:
        while count < room and stop < 0:
            stop = parser.read_ticks(&p, last, record, ~<uint64_t>0, &count, room, NULL)
        for k in range(count):
            record[k].seq = first_seq + k
            record[k].recv_us = 0
    return count, p - base, stop if stop >= 0 else P_FULL
