cdef class RingView:
    """One tick ring segment: its state and its reader slots; base of writer and reader."""
    cdef tick_ring *ring
    cdef object keep
    cdef uint64_t capacity, mask

    def __init__(self, uint8_t[::1] segment):
        self.keep = segment
        self.ring = <tick_ring *>&segment[0]
        cdef uint64_t room = 0
        if segment.shape[0] >= RING_HEADER_BYTES:
            self.capacity = self.ring.capacity
            room = (segment.shape[0] - RING_HEADER_BYTES) // RECORD_BYTES
        self.mask = self.capacity - 1
        if self.capacity < 2 or self.capacity & self.mask or self.capacity > room:
            raise ValueError(f"tick ring: {segment.shape[0]} bytes, capacity {self.capacity}")

    @property
    def state(self):
        """``(published, next_seq, end_seq or None, heartbeat_ns)``."""
        end = load_acquire(self.ring.end_seq)
        return (load_acquire(self.ring.published), load_acquire(self.ring.next_seq),
                None if end == NO_END_C else end, self.ring.heartbeat_ns)

    @property
    def policy(self):
        """READER_LOSSLESS (1) or READER_LATEST (2)."""
        return self.ring.policy

    def reader(self, Py_ssize_t slot):
        """``(state, cursor, lost, name)`` of a reader slot."""
        cdef ring_reader *reader = self.slot(slot)
        return (reader.state, load_acquire(reader.cursor), reader.lost,
                (<bytes>reader.name[:READER_NAME_BYTES]).rstrip(b"\0").decode(errors="replace"))

    def set_reader(self, Py_ssize_t slot, uint32_t state, cursor=None, name=None):
        """Register (state 1 or 2) or free (0) a reader slot, whose lock must be held.

        A ``name`` makes it a new reader's slot and resets its count of lost ticks.
        """
        cdef ring_reader *reader = self.slot(slot)
        if cursor is not None:
            store_release(reader.cursor, cursor)
        if name is not None:
            raw = name.encode()
            if not 0 < len(raw) <= READER_NAME_BYTES:
                raise ValueError(f"reader name {name!r}: 1 to {READER_NAME_BYTES} bytes")
            raw = raw.ljust(READER_NAME_BYTES, b"\0")
            memcpy(reader.name, <const char *>raw, READER_NAME_BYTES)
            store_relaxed(reader.lost, 0)
        store_state(reader.state, state)
        futex_wake_if(&self.ring.space_futex, &self.ring.space_waiting)

    cdef ring_reader *slot(self, Py_ssize_t slot) except NULL:
        if not 0 <= slot < MAX_READERS_C:
            raise IndexError(slot)
        return &self.ring.reader[slot]


cdef inline void add_latency(uint64_t[::1] buckets, int64_t value_ns,
                             uint64_t count) noexcept nogil:
    cdef uint64_t index = histogram_index(<uint64_t>max(value_ns, 0))
    buckets[min(index, <uint64_t>buckets.shape[0] - 1)] += count


cdef class TickWriter(RingView):
    """Parses the feed straight into the book and the ring; one per stack."""
    cdef FieldParser parser
    cdef price_book *book
    cdef object keep_book
    cdef uint64_t limit

    def __init__(self, uint8_t[::1] ring, uint8_t[::1] book, FieldParser parser):
        RingView.__init__(self, ring)
        BookView(book)  # checks the size
        self.keep_book = book
        self.book = <price_book *>&book[0]
        self.parser = parser
        if <uint32_t>parser.symbol_count != self.book.symbol_count:
            raise ValueError("parser and book have different symbols")
        # A writer killed after publishing ticks may not have stored next_seq: take it from the last
        # tick.  (That record is intact: a burst overwrites at most the oldest quarter of the ring.)
        if self.ring.published:
            known = self.ring.record[(self.ring.published - 1) & self.mask].seq + 1
            self.set_next_seq(max(known, self.ring.next_seq))

    cdef uint64_t worst_lag(self) noexcept nogil:
        """Published ticks that the slowest lossless reader has not taken yet."""
        cdef uint64_t published = self.ring.published, lag = 0, cursor
        cdef int i
        for i in range(MAX_READERS_C):
            if load_word(self.ring.reader[i].state) == READER_LOSSLESS:
                cursor = load_acquire(self.ring.reader[i].cursor)
                if cursor < published and published - cursor > lag:
                    lag = published - cursor
        return lag

    cdef uint64_t writable_to(self) noexcept nogil:
        """The first position that must not be written: one capacity past the slowest reader.

        While at most half the ring is filled, a new reader may start at tick 0 (TickRing.register),
        so tick 0 is not overwritten either.
        """
        cdef uint64_t published = self.ring.published
        if published <= self.capacity // 2:
            return self.capacity
        return published - self.worst_lag() + self.capacity

    cdef int push_span(self, const uint8_t **at, const uint8_t *last, int64_t recv_ns) noexcept nogil:
        """Parse, write book and ring, publish, wake; return why it stopped; ``at`` is where."""
        cdef tick_ring *ring = self.ring
        cdef uint64_t position = ring.published, seq = ring.next_seq, goal, parsed
        cdef uint32_t recv_us = <uint32_t>(recv_ns // 1000)
        cdef tick_record *record
        cdef uint64_t burst = max(<uint64_t>1, min(<uint64_t>BURST_TICKS, self.capacity // 4))
        cdef int stop = -1
        while stop < 0:
            if position >= self.limit:
                self.limit = self.writable_to()
                if position >= self.limit:
                    stop = P_FULL
                    break
            # Publish after each burst, so that readers start while we are still parsing.
            goal = min(self.limit, position + burst)
            if goal > ring.claimed:  # a writer that died may have claimed more
                store_relaxed(ring.claimed, goal)
            fence_release()
            while position < goal and stop < 0:
                # In blocks, so that the cache misses of a large book overlap.
                parsed = position
                stop = self.parser.read_ticks(
                    at, last, ring.record, self.mask, &parsed, goal, self.book.slot)
                while position < parsed:
                    record = &ring.record[position & self.mask]
                    record.seq = seq
                    record.recv_us = recv_us
                    book_put(&self.book.slot[record.symbol], seq, record.event_ns,
                             record.price, recv_ns)
                    position += 1
                    seq += 1
            store_release(ring.published, position)
            store_release(ring.next_seq, seq)
            futex_wake_if(&ring.data_futex, &ring.data_waiting)
        store_time(ring.heartbeat_ns, recv_ns)
        store_time(self.book.heartbeat_ns, recv_ns)
        return stop

    def push(self, uint8_t[::1] buffer, Py_ssize_t start, Py_ssize_t end, int64_t recv_ns):
        """Parse, write book and ring, publish, wake; ``(ticks, position, stop)`` as parse_ticks.

        FULL: a lossless reader has not read enough; call wait_space, then push the rest.
        """
        cdef const uint8_t *base = parse_view(buffer, start, end)
        cdef const uint8_t *p = base + start
        cdef uint64_t first = self.ring.published
        cdef int stop
        with nogil:
            stop = self.push_span(&p, base + end, recv_ns)
        return self.ring.published - first, p - base, stop

    def receive(self, int descriptor, uint8_t[::1] buffer, Py_ssize_t fill, Py_ssize_t piece_bytes,
             int64_t until_ns, uint64_t[::1] buckets):
        """Receive from a socket and push, until ``until_ns`` or until the parser needs the caller.

        ``buffer[:fill]`` is an unfinished tick.  Each receive waits for the socket's timeout; the
        call ends when nothing arrives.  Returns ``(received, ticks, position, fill, stop, first_ns,
        recv_ns, pieces)``: bytes received (0: closed by the peer; negative: -errno); ticks written;
        where parsing stopped (0 at NEED_MORE), the bytes in the buffer, and why; CLOCK_MONOTONIC of
        the first receive that brought ticks and of the last that brought bytes; number of receives
        that brought ticks.  Their times from receipt to publication go into ``buckets``.
        """
        cdef uint8_t *base = &buffer[0]
        cdef const uint8_t *p = base
        cdef uint64_t first = self.ring.published, before
        cdef Py_ssize_t room = buffer.shape[0] - SLACK_BYTES, got, received = 0
        cdef int64_t first_ns = 0, recv_ns = 0, now_ns = 0
        cdef int stop = P_NEED_MORE, pieces = 0
        if not 0 <= fill or fill + piece_bytes > room or piece_bytes < 1:
            raise ValueError(f"{fill} bytes and a piece of {piece_bytes} in a buffer for {room}")
        with nogil:
            while stop == P_NEED_MORE and fill + piece_bytes <= room:
                got = recv(descriptor, base + fill, piece_bytes, 0)
                if got <= 0:
                    if not received:
                        received = -errno if got else 0
                    break
                recv_ns = monotonic_ns()
                received += got
                fill += got
                memset(base + fill, STAR, SLACK_BYTES)
                p = base
                before = self.ring.published
                stop = self.push_span(&p, base + fill, recv_ns)
                now_ns = monotonic_ns()
                if self.ring.published != before:
                    pieces += 1
                    if pieces == 1:
                        first_ns = recv_ns
                    add_latency(buckets, now_ns - recv_ns, 1)
                if stop == P_NEED_MORE:
                    fill -= p - base
                    memmove(base, p, fill)
                    p = base
                if now_ns >= until_ns:
                    break
        return (received, self.ring.published - first, p - base, fill, stop, first_ns, recv_ns,
                pieces)

    def lag(self):
        """Ticks that the slowest lossless reader has not taken yet."""
        return self.worst_lag()

    def set_next_seq(self, uint64_t seq):
        """The next tick is ``seq``: after a resume, or after ticks that were refused."""
        store_release(self.ring.next_seq, seq)

    def finish(self, uint64_t seq):
        """The run is over after ``seq`` ticks."""
        store_release(self.ring.end_seq, seq)
        futex_wake_if(&self.ring.data_futex, &self.ring.data_waiting)

    def heartbeat(self):
        """Publish the writer's heartbeat."""
        store_time(self.ring.heartbeat_ns, monotonic_ns())
        store_time(self.book.heartbeat_ns, monotonic_ns())

    def wait_space(self, int64_t timeout_ns):
        """Sleep until the slowest lossless reader has advanced; return whether there is space."""
        cdef tick_ring *ring = self.ring
        cdef uint32_t seen = load_word(ring.space_futex)
        store_word(ring.space_waiting, 1)
        fence_full()
        with nogil:
            if self.writable_to() <= ring.published:
                futex_wait(&ring.space_futex, seen, timeout_ns)
            self.limit = self.writable_to()
        return self.limit > ring.published


cdef class TickReader(RingView):
    """One registered reader of the ring; its cursor is kept in the shared slot."""
    cdef ring_reader *registration
    cdef uint64_t cursor
    cdef readonly uint64_t lost

    def __init__(self, uint8_t[::1] ring, Py_ssize_t slot):
        RingView.__init__(self, ring)
        self.registration = self.slot(slot)
        self.cursor = load_acquire(self.registration.cursor)
        self.lost = self.registration.lost

    @property
    def position(self):
        """Ring position of the next tick to consume."""
        return self.cursor

    cdef inline uint64_t ahead(self) noexcept nogil:
        # A lapped reader's new cursor may be ahead of the ``published`` it has read.
        cdef uint64_t published = load_acquire(self.ring.published)
        return published - self.cursor if published > self.cursor else 0

    def available(self):
        """Ticks published and not consumed yet."""
        return self.ahead()

    def next_seq(self):
        """Source sequence of the next tick to consume; if there is none yet, one past the last."""
        cdef tick_ring *ring = self.ring
        cdef uint64_t position, published, claimed, seq
        while True:
            published = load_acquire(ring.published)
            if published == 0:
                return 0
            position = self.cursor if self.cursor < published else published - 1
            seq = ring.record[position & self.mask].seq
            fence_acquire()
            claimed = load_relaxed(ring.claimed)
            if claimed <= position + self.capacity:
                return seq + (0 if self.cursor < published else 1)
            if self.cursor < published:  # lapped
                self.skip(claimed, published)

    def wait(self, int64_t timeout_ns):
        """Sleep until there is a tick or the run is over; return the number of unread ticks."""
        cdef tick_ring *ring = self.ring
        cdef uint32_t seen
        if self.ahead() == 0:
            with nogil:
                seen = load_word(ring.data_futex)
                store_word(ring.data_waiting, 1)
                fence_full()
                if self.ahead() == 0 and load_acquire(ring.end_seq) == NO_END_C:
                    futex_wait(&ring.data_futex, seen, timeout_ns)
        return self.ahead()

    def peek(self, Py_ssize_t most):
        """``(index, count, last_seq)`` of records to read in place (lossless only); never wraps."""
        cdef uint64_t start = self.cursor & self.mask
        cdef uint64_t count = min(self.ahead(), self.capacity - start, <uint64_t>max(most, 0))
        return start, count, self.ring.record[start + count - 1].seq if count else 0

    def copy(self, tick_record[::1] out):
        """Latest policy: copy unread ticks, skip overwritten ones; return the number copied.

        A lapped reader resumes half a ring behind the writer, so it is not lapped again at once.
        """
        cdef tick_ring *ring = self.ring
        cdef uint64_t ahead, start, count, claimed
        cdef uint64_t room = out.shape[0]
        while True:
            ahead = self.ahead()
            start = self.cursor & self.mask
            count = min(ahead, room, self.capacity - start)
            if count and ahead <= self.capacity:
                memcpy(&out[0], &ring.record[start], count * sizeof(tick_record))
            fence_acquire()
            claimed = load_relaxed(ring.claimed)
            if claimed <= self.cursor + self.capacity:
                return count
            self.skip(claimed, self.cursor + ahead)

    cdef void skip(self, uint64_t claimed, uint64_t published) noexcept nogil:
        """Lapped: count the overwritten ticks and move the cursor past them."""
        cdef uint64_t oldest = claimed - self.capacity
        if published > self.capacity // 2:
            oldest = max(oldest, published - self.capacity // 2)
        self.lost += oldest - self.cursor
        self.cursor = oldest
        store_relaxed(self.registration.lost, self.lost)
        store_release(self.registration.cursor, self.cursor)

    def advance(self, uint64_t count):
        """Consume ``count`` ticks; the writer may overwrite them."""
        cdef tick_ring *ring = self.ring
        self.cursor += count
        store_release(self.registration.cursor, self.cursor)
        # Wake the writer only at half a ring of space: a wake-up costs more than a thousand ticks.
        if self.ahead() <= self.capacity // 2:
            futex_wake_if(&ring.space_futex, &ring.space_waiting)
