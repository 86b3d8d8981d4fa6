# cython: language_level=3, boundscheck=True, wraparound=False, cdivision=True
# cython: initializedcheck=False, freethreading_compatible=False
"""The compiled part: what runs once per tick.

Parses the text feed, writes the price book and the ring, hands batches to readers, and runs the
inner loops of strategies.  The memory layout, the fences and the futex are in ``_layout.h``.  The
plain-Python twin in ``tests/kernel_twin.py`` states the same behaviour slowly.
"""

from libc.math cimport llrint
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, strtod
from libc.string cimport memchr, memcmp, memcpy, memmove

cdef extern from *:
    # Sums of int64 prices over a window need more than 64 bits to stay exact.
    ctypedef long long int128 "__int128"
    int __builtin_ctzll(unsigned long long) nogil

cdef extern from "_layout.h" nogil:
    const uint32_t LAYOUT_VERSION_C "LAYOUT_VERSION"
    const uint64_t BOOK_MAGIC_C "BOOK_MAGIC"
    const uint64_t RING_MAGIC_C "RING_MAGIC"
    const uint64_t NO_END_C "NO_END"
    const int MAX_READERS_C "MAX_READERS"
    const uint32_t READER_FREE, READER_LOSSLESS, READER_LATEST
    ctypedef struct book_cell:
        int64_t event_ns
        double price
        int64_t recv_ns
    ctypedef struct book_slot:
        uint64_t stamp
        double price
        char *symbol
    ctypedef struct price_book:
        uint64_t magic, boot_id, gaps
        uint32_t layout_version, slot_bytes, symbol_count
        int64_t heartbeat_ns
        book_slot *slot
    ctypedef struct tick_record:
        int64_t event_ns
        double price
        uint64_t seq
        uint32_t symbol
        uint32_t recv_us
    ctypedef struct ring_reader:
        uint32_t state
        uint64_t cursor, lost
        char *name
    ctypedef struct tick_ring:
        uint64_t magic, capacity, boot_id, published, claimed, next_seq, end_seq
        uint32_t layout_version, record_bytes, policy
        int64_t heartbeat_ns
        uint32_t data_futex, data_waiting, space_futex, space_waiting
        ring_reader *reader
        tick_record *record
    void book_put(book_slot *slot, uint64_t seq, int64_t event_ns, double price, int64_t recv_ns)
    int64_t book_get(book_slot *slot, book_cell *out)
    uint64_t load_relaxed(uint64_t)
    uint64_t load_acquire(uint64_t)
    uint32_t load_word "load_acquire"(uint32_t)
    void store_relaxed(uint64_t, uint64_t)
    void store_word "store_relaxed"(uint32_t, uint32_t)
    void store_time "store_relaxed"(int64_t, int64_t)
    void store_release(uint64_t, uint64_t)
    void fence_acquire()
    void fence_release()
    void fence_full()
    long futex_wait(uint32_t *word, uint32_t seen, int64_t timeout_ns)
    void futex_wake_if(uint32_t *word, uint32_t *waiting)
    int64_t monotonic_ns()
    uint64_t histogram_index(uint64_t value)

LAYOUT_VERSION = LAYOUT_VERSION_C
BOOK_MAGIC = BOOK_MAGIC_C
RING_MAGIC = RING_MAGIC_C
NO_END = NO_END_C
MAX_READERS = MAX_READERS_C
BOOK_HEADER_BYTES = 4096
BOOK_SLOT_BYTES = 128
RING_HEADER_BYTES = 8192
RECORD_BYTES = sizeof(tick_record)
PARSE_SLACK_BYTES = 32
"""Room that a parsed buffer needs behind its last byte: the parser puts its sentinels there."""

# What a parse call stopped at.
NEED_MORE, FULL, MARK, BAD_TIMESTAMP, BAD_SYMBOL, BAD_PRICE, BAD_SENTIMENT = range(7)

cdef enum:
    P_NEED_MORE = 0
    P_FULL = 1
    P_MARK = 2
    P_BAD_TIMESTAMP = 3
    P_BAD_SYMBOL = 4
    P_BAD_PRICE = 5
    P_BAD_SENTIMENT = 6
    STAR = 42

cdef double MAX_PRICE = 9e9
cdef double[19] POWER_OF_TEN
cdef int64_t[10] NANOS_PER_FRACTION
for _i in range(19):
    POWER_OF_TEN[_i] = 10.0 ** _i
for _i in range(10):
    NANOS_PER_FRACTION[_i] = 10 ** (9 - _i)


# ---------------------------------------------------------------------------------------------
# Text fields.  Each reader starts at a field's first byte and returns the position behind its
# delimiter, or NULL.  Sentinel delimiters behind the buffer end make every loop stop.

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
    """Decimal text (digits, point, exponent; no sign, no spaces) as the nearest double."""
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
        # Below 2**53 both operands are exact doubles, so the division rounds once: correctly.
        value = <double>mantissa
        if point >= 0:
            value /= POWER_OF_TEN[digits - point]
    else:
        if digits == 0 or (p[0] != STAR and p[0] != 69 and p[0] != 101):
            return NULL
        value = strtod(<const char *>start, &end)
        p = <const uint8_t *>end
        if p[0] != STAR:
            return NULL
    if not 0.0 < value <= MAX_PRICE:
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
    uint64_t head
    uint32_t tail
    int32_t index


cdef class FieldParser:
    """Parses ``timestamp*symbol*value*`` against a fixed symbol list."""
    cdef symbol_entry *table
    cdef int shift
    cdef uint64_t mask
    cdef uint64_t minute_head, minute_tail
    cdef int64_t minute_ns
    cdef readonly int symbol_count

    def __cinit__(self, symbols):
        cdef uint64_t size = 64
        self.symbol_count = len(symbols)
        while size * 5 < <uint64_t>self.symbol_count * 8:
            size *= 2
        self.mask = size - 1
        self.shift = 64 - (size.bit_length() - 1)
        self.table = <symbol_entry *>calloc(size, sizeof(symbol_entry))
        if self.table == NULL:
            raise MemoryError
        self.minute_head = self.minute_tail = 0

    def __init__(self, symbols):
        cdef uint64_t head, at
        cdef uint32_t tail
        cdef uint8_t[16] text
        for index, symbol in enumerate(symbols):
            raw = symbol.encode() if isinstance(symbol, str) else symbol
            if not 0 < len(raw) <= 10:
                raise ValueError(f"symbol {symbol!r}: 1 to 10 bytes, got {len(raw)}")
            padded = raw.ljust(16, b"\0")
            memcpy(text, <const char *>padded, 16)
            memcpy(&head, text, 8)
            tail = text[8] | (<uint32_t>text[9] << 8)
            at = self.slot_of(head, tail)
            if self.table[at].index:
                raise ValueError(f"symbol {symbol!r} twice")
            self.table[at] = symbol_entry(head, tail, index + 1)

    def __dealloc__(self):
        free(self.table)

    cdef inline uint64_t slot_of(self, uint64_t head, uint32_t tail) noexcept nogil:
        """Where the symbol is, or the free place where it would be."""
        cdef uint64_t at = ((head ^ (<uint64_t>tail * 0x9E3779B97F4A7C15ull))
                            * 0x9E3779B97F4A7C15ull) >> self.shift
        while self.table[at].index and (self.table[at].head != head or self.table[at].tail != tail):
            at = (at + 1) & self.mask
        return at

    cdef inline const uint8_t *read_symbol(self, const uint8_t *p, int32_t *out) noexcept nogil:
        cdef uint64_t head, hit
        cdef uint32_t tail = 0
        cdef int length
        memcpy(&head, p, 8)
        # The lowest '*' byte of a word: xor makes it zero, and the borrow trick finds zeros.
        hit = head ^ 0x2A2A2A2A2A2A2A2Aull
        hit = (hit - 0x0101010101010101ull) & ~hit & 0x8080808080808080ull
        if hit:
            length = __builtin_ctzll(hit) >> 3
            head &= (1ull << (length * 8)) - 1
        else:
            length = 8
            while length < 10 and p[length] != STAR:
                tail |= <uint32_t>p[length] << ((length - 8) * 8)
                length += 1
            if p[length] != STAR:
                return NULL
        out[0] = self.table[self.slot_of(head, tail)].index - 1
        return p + length + 1 if out[0] >= 0 else NULL

    cdef inline const uint8_t *read_time(self, const uint8_t *p, int64_t *out) noexcept nogil:
        """``YYYY-MM-DD[ T]HH:MM:SS[.f{1,9}][Z]``; the minute is remembered, feeds repeat it."""
        cdef uint64_t head, tail
        cdef int64_t ns, fraction = 0
        cdef int seconds, digits = 0
        memcpy(&head, p, 8)
        memcpy(&tail, p + 8, 8)
        if head != self.minute_head or tail != self.minute_tail:
            ns = minute_start_ns(p)
            if ns < 0:
                return NULL
            self.minute_head, self.minute_tail, self.minute_ns = head, tail, ns
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
        out[0] = ns
        return p + 1

    cdef inline int read_tick(self, const uint8_t **at, const uint8_t *end, bint percent,
                              tick_record *out) noexcept nogil:
        """One tick; ``at`` ends behind it, or at the field that is wrong.

        An error that the sentinels or a missing end may have caused is "need more", unless a
        whole tick's three delimiters are there: then it is the sender's.
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
                        out.symbol = <uint32_t>symbol
                        at[0] = p
                        return -1
                    at[0] = start
                    return P_NEED_MORE
        p = start
        if 65 <= p[0] <= 90:  # a mark (SEQ|, END|): its one frame is complete or awaited
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
    """Check the bounds, put the sentinels, return the buffer's address."""
    if not 0 <= start <= end <= buffer.shape[0] - PARSE_SLACK_BYTES:
        raise ValueError(
            f"parse of {start}:{end} in {buffer.shape[0]} bytes; {PARSE_SLACK_BYTES} must follow")
    cdef Py_ssize_t i
    for i in range(PARSE_SLACK_BYTES):
        buffer[end + i] = STAR
    return &buffer[0]


def parse_ticks(FieldParser parser, uint8_t[::1] buffer, Py_ssize_t start, Py_ssize_t end,
                tick_record[::1] out, uint64_t first_seq=0, bint percent=False):
    """Parse ``buffer[start:end]`` into ``out``; ``(ticks, position, stop)``.

    ``stop`` says why it ended (NEED_MORE, FULL, MARK, BAD_*); ``position`` is the first byte not
    consumed, or the first byte of the wrong field.  ``percent`` reads sentiment (0 to 100).
    """
    cdef const uint8_t *base = parse_view(buffer, start, end)
    cdef const uint8_t *p = base + start
    cdef const uint8_t *last = base + end
    cdef Py_ssize_t count = 0, room = out.shape[0]
    cdef int stop = P_FULL
    with nogil:
        while count < room:
            stop = parser.read_tick(&p, last, percent, &out[count])
            if stop >= 0:
                break
            out[count].seq = first_seq + <uint64_t>count
            out[count].recv_us = 0
            count += 1
            stop = P_FULL
    return count, p - base, stop


# ---------------------------------------------------------------------------------------------
# Writer side

cdef class BookView:
    """One price book segment, for its writer and its readers."""
    cdef price_book *book
    cdef object keep
    cdef readonly Py_ssize_t count

    def __init__(self, uint8_t[::1] segment):
        self.keep = segment
        self.book = <price_book *>&segment[0]
        self.count = self.book.symbol_count
        if segment.shape[0] < BOOK_HEADER_BYTES + self.count * BOOK_SLOT_BYTES:
            raise ValueError(f"price book: {segment.shape[0]} bytes hold no {self.count} symbols")

    def put(self, Py_ssize_t index, double price, int64_t event_ns=0, int64_t recv_ns=0, seq=None):
        """Write one price; ``seq`` None means the slot's next.  Nothing changes on an old ``seq``."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        if not 0.0 < price <= MAX_PRICE:
            raise ValueError(f"price {price!r}: must be finite, above 0, at most {MAX_PRICE:.0f}")
        cdef book_slot *slot = &self.book.slot[index]
        cdef uint64_t number = load_relaxed(slot.stamp) >> 1 if seq is None else seq
        book_put(slot, number, event_ns, price, recv_ns)

    def get(self, Py_ssize_t index):
        """``(price, event_ns, recv_ns, seq)``, all of one tick; None if never written."""
        cdef book_cell cell
        if not 0 <= index < self.count:
            raise IndexError(index)
        cdef int64_t seq = book_get(&self.book.slot[index], &cell)
        return None if seq < 0 else (cell.price, cell.event_ns, cell.recv_ns, seq)

    def beat(self):
        """Tell readers that the writer lives."""
        store_time(self.book.heartbeat_ns, monotonic_ns())

    def count_gap(self):
        """Count one interruption of the feed."""
        store_relaxed(self.book.gaps, self.book.gaps + 1)

    def repair(self):
        """Make the plain prices agree with the live cells, after a writer died between the two."""
        cdef book_cell cell
        for index in range(self.count):
            if book_get(&self.book.slot[index], &cell) >= 0:
                self.book.slot[index].price = cell.price

    @property
    def heartbeat_ns(self):
        """CLOCK_MONOTONIC of the writer's last sign of life."""
        return self.book.heartbeat_ns

    @property
    def gaps(self):
        """Interruptions of the feed that the writer saw."""
        return self.book.gaps

    @property
    def boot_id(self):
        """Random number of this segment; a new segment of the same name has another."""
        return self.book.boot_id


cdef class RingView:
    """One tick ring segment: state, registration, waiting; base of writer and reader."""
    cdef tick_ring *ring
    cdef object keep
    cdef uint64_t capacity, mask

    def __init__(self, uint8_t[::1] segment):
        self.keep = segment
        self.ring = <tick_ring *>&segment[0]
        self.capacity = self.ring.capacity
        self.mask = self.capacity - 1
        if (self.capacity == 0 or self.capacity & self.mask or <uint64_t>segment.shape[0]
                < RING_HEADER_BYTES + self.capacity * sizeof(tick_record)):
            raise ValueError(f"tick ring: {segment.shape[0]} bytes, capacity {self.capacity}")

    @property
    def state(self):
        """``(published, next_seq, end_seq or None, heartbeat_ns)``."""
        end = load_acquire(self.ring.end_seq)
        return (load_acquire(self.ring.published), load_acquire(self.ring.next_seq),
                None if end == NO_END_C else end, self.ring.heartbeat_ns)

    @property
    def boot_id(self):
        """Random number of this segment."""
        return self.ring.boot_id

    @property
    def policy(self):
        """READER_LOSSLESS (1) or READER_LATEST (2)."""
        return self.ring.policy

    def reader(self, Py_ssize_t slot):
        """``(state, cursor, lost, name)`` of a reader slot."""
        cdef ring_reader *reader = self.slot(slot)
        return (reader.state, load_acquire(reader.cursor), reader.lost,
                (<bytes>reader.name[:32]).rstrip(b"\0").decode(errors="replace"))

    def set_reader(self, Py_ssize_t slot, uint32_t state, cursor=None, name=None):
        """Register (state 1 or 2) or free (0) a reader slot; its lock must be held."""
        cdef ring_reader *reader = self.slot(slot)
        if cursor is not None:
            store_release(reader.cursor, cursor)
        if name is not None:
            raw = name.encode()[:31].ljust(32, b"\0")
            memcpy(reader.name, <const char *>raw, 32)
        store_word(reader.state, state)
        futex_wake_if(&self.ring.space_futex, &self.ring.space_waiting)

    cdef ring_reader *slot(self, Py_ssize_t slot) except NULL:
        if not 0 <= slot < MAX_READERS_C:
            raise IndexError(slot)
        return &self.ring.reader[slot]


cdef class TickWriter(RingView):
    """Parses the feed straight into the book and the ring; one per stack."""
    cdef FieldParser parser
    cdef price_book *book
    cdef object keep_book
    cdef uint64_t limit
    cdef readonly uint64_t waits

    def __init__(self, uint8_t[::1] ring, uint8_t[::1] book, FieldParser parser):
        RingView.__init__(self, ring)
        BookView(book)  # checks the size
        self.keep_book = book
        self.book = <price_book *>&book[0]
        self.parser = parser
        if <uint32_t>parser.symbol_count != self.book.symbol_count:
            raise ValueError("parser and book have different symbols")

    cdef uint64_t slowest(self) noexcept nogil:
        """The position up to which may be written: one capacity past the slowest reader."""
        cdef uint64_t published = self.ring.published, lag = 0, cursor
        cdef int i
        for i in range(MAX_READERS_C):
            if load_word(self.ring.reader[i].state) == READER_LOSSLESS:
                cursor = load_acquire(self.ring.reader[i].cursor)
                if cursor < published and published - cursor > lag:
                    lag = published - cursor
        return published - lag + self.capacity

    def push(self, uint8_t[::1] buffer, Py_ssize_t start, Py_ssize_t end, int64_t recv_ns):
        """Parse, write book and ring, publish, wake; ``(ticks, position, stop)`` as parse_ticks.

        FULL: a lossless reader holds the ring; wait_space, then push the rest.
        """
        cdef const uint8_t *base = parse_view(buffer, start, end)
        cdef const uint8_t *p = base + start
        cdef const uint8_t *last = base + end
        cdef tick_ring *ring = self.ring
        cdef uint64_t first = ring.published, position = first, seq = ring.next_seq, goal
        cdef uint32_t recv_us = <uint32_t>(recv_ns // 1000)
        cdef tick_record *record
        cdef tick_record draft
        cdef int stop = -1
        with nogil:
            while stop < 0:
                if position >= self.limit:
                    self.limit = self.slowest()
                    if position >= self.limit:
                        stop = P_FULL
                        break
                # Publish every so often, so that readers start while we still parse.
                goal = min(self.limit, position + 2048)
                store_relaxed(ring.claimed, goal)
                fence_release()
                while position < goal:
                    stop = self.parser.read_tick(&p, last, False, &draft)
                    if stop >= 0:
                        break
                    record = &ring.record[position & self.mask]
                    draft.seq = seq
                    draft.recv_us = recv_us
                    record[0] = draft
                    book_put(&self.book.slot[draft.symbol], seq, draft.event_ns, draft.price,
                             recv_ns)
                    position += 1
                    seq += 1
                store_release(ring.published, position)
                store_release(ring.next_seq, seq)
                futex_wake_if(&ring.data_futex, &ring.data_waiting)
            store_time(ring.heartbeat_ns, recv_ns)
            store_time(self.book.heartbeat_ns, recv_ns)
        return position - first, p - base, stop

    def lag(self):
        """Ticks that the slowest lossless reader has still to take."""
        return self.ring.published + self.capacity - self.slowest()

    def set_next_seq(self, uint64_t seq):
        """The feed goes on at ``seq`` (a resume, or ticks refused in between)."""
        store_release(self.ring.next_seq, seq)

    def finish(self, uint64_t seq):
        """The run has ``seq`` ticks and no more will come."""
        store_release(self.ring.end_seq, seq)
        futex_wake_if(&self.ring.data_futex, &self.ring.data_waiting)

    def beat(self):
        """Tell readers that the writer lives."""
        store_time(self.ring.heartbeat_ns, monotonic_ns())
        store_time(self.book.heartbeat_ns, monotonic_ns())

    def wait_space(self, int64_t timeout_ns):
        """Sleep until the slowest lossless reader has moved on; whether there is room now."""
        cdef tick_ring *ring = self.ring
        cdef uint32_t seen = load_word(ring.space_futex)
        self.waits += 1
        store_word(ring.space_waiting, 1)
        fence_full()
        with nogil:
            if self.slowest() <= ring.published:
                futex_wait(&ring.space_futex, seen, timeout_ns)
            self.limit = self.slowest()
        return self.limit > ring.published


# ---------------------------------------------------------------------------------------------
# Reader side

cdef class TickReader(RingView):
    """One registered reader of the ring; its cursor lives in the shared slot."""
    cdef ring_reader *me
    cdef uint64_t cursor
    cdef readonly uint64_t lost

    def __init__(self, uint8_t[::1] ring, Py_ssize_t slot):
        RingView.__init__(self, ring)
        self.me = self.slot(slot)
        self.cursor = load_acquire(self.me.cursor)
        self.lost = self.me.lost

    @property
    def position(self):
        """Ring position of the next tick to consume."""
        return self.cursor

    def available(self):
        """Ticks published and not consumed yet."""
        return load_acquire(self.ring.published) - self.cursor

    def wait(self, int64_t timeout_ns):
        """Sleep until there is a tick or the run ended; the number of ticks there are."""
        cdef tick_ring *ring = self.ring
        cdef uint32_t seen
        if load_acquire(ring.published) == self.cursor:
            with nogil:
                seen = load_word(ring.data_futex)
                store_word(ring.data_waiting, 1)
                fence_full()
                if load_acquire(ring.published) == self.cursor:
                    futex_wait(&ring.data_futex, seen, timeout_ns)
        return load_acquire(ring.published) - self.cursor

    def peek(self, Py_ssize_t most):
        """``(index, count, last_seq)``: records to read in place, lossless only; never wraps."""
        cdef uint64_t start = self.cursor & self.mask
        cdef uint64_t count = min(load_acquire(self.ring.published) - self.cursor,
                                  self.capacity - start, <uint64_t>most)
        return start, count, self.ring.record[start + count - 1].seq if count else 0

    def copy(self, tick_record[::1] out):
        """Latest policy: copy what is there, skip what was overwritten; the number copied.

        A lapped reader goes on at the oldest half of the ring, so it is not lapped again at once.
        """
        cdef tick_ring *ring = self.ring
        cdef uint64_t published, start, count, oldest, claimed
        cdef Py_ssize_t room = out.shape[0]
        while True:
            published = load_acquire(ring.published)
            count = min(published - self.cursor, <uint64_t>room)
            if count and published - self.cursor <= self.capacity:
                start = self.cursor & self.mask
                count = min(count, self.capacity - start)
                memcpy(&out[0], &ring.record[start], count * sizeof(tick_record))
            fence_acquire()
            claimed = load_relaxed(ring.claimed)
            oldest = claimed - self.capacity if claimed > self.capacity else 0
            if self.cursor >= oldest:
                return count
            oldest = max(oldest, published - self.capacity // 2)
            self.lost += oldest - self.cursor
            self.cursor = oldest
            store_relaxed(self.me.lost, self.lost)
            store_release(self.me.cursor, self.cursor)

    def advance(self, uint64_t count):
        """The first ``count`` ticks are done with; the writer may have their room."""
        cdef tick_ring *ring = self.ring
        self.cursor += count
        store_release(self.me.cursor, self.cursor)
        # Half a ring of room before waking the writer: a wake-up costs more than a thousand ticks.
        if load_acquire(ring.published) - self.cursor <= self.capacity // 2:
            futex_wake_if(&ring.space_futex, &ring.space_waiting)


# ---------------------------------------------------------------------------------------------
# Strategy side: loops over a batch

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
    one is depends on the answer.  Orders are indices into ``ticks``.
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
                    busy[symbol] = 1
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
