def make_read_only(uint8_t[::1] segment, Py_ssize_t start):
    """Let the kernel refuse writes to the mapped memory from ``start`` on.

    Does nothing where pages are so large that ``start`` is in the middle of one.
    """
    cdef uint8_t *at = &segment[start]
    if <uintptr_t>at % <uintptr_t>sysconf(PAGE_SIZE) == 0:
        if mprotect(at, segment.shape[0] - start, PROT_READ) != 0:
            raise OSError(errno, "mprotect")


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
    cdef BatchTimes times
    cdef uint64_t limit
    # What this writer has written to the header; other words there are damage.
    cdef uint64_t published, claimed, next_seq, end_seq, skipped

    def __init__(self, uint8_t[::1] ring, uint8_t[::1] book, FieldParser parser):
        RingView.__init__(self, ring)
        BookView(book)  # checks the size
        self.keep_book = book
        self.book = <price_book *>&book[0]
        self.parser = parser
        if <uint32_t>parser.symbol_count != self.book.symbol_count:
            raise ValueError("parser and book have different symbols")
        self.take_over()

    def note_times(self, BatchTimes times):
        """From now on, note in ``times`` when each burst of ticks was received and published."""
        self.times = times

    cdef take_over(self):
        """Continue after the last tick in the ring; check that the header fits to it."""
        cdef tick_ring *ring = self.ring
        cdef tick_record *last
        cdef uint64_t seq = ring.next_seq, expected = ring.published + ring.skipped
        self.published, self.claimed, self.end_seq = ring.published, ring.claimed, ring.end_seq
        # A writer killed after publishing ticks may not have stored next_seq: take it from the last
        # tick.  (That record is intact: a burst overwrites at most the oldest quarter of the ring.)
        if self.published:
            last = &ring.record[(self.published - 1) & self.mask]
            seq = max(seq, last.seq + 1)
            if seal_broken(last) or last.seq < self.published - 1:
                raise Damaged(f"tick ring: record {self.published - 1} does not fit to the header")
        if seq > expected or seq < self.published or self.claimed < self.published or (
                self.claimed - self.published > self.capacity) or (
                self.end_seq != NO_END_C and self.end_seq != seq):
            raise Damaged(
                f"tick ring: published {self.published}, skipped {ring.skipped}, claimed "
                f"{self.claimed}, next_seq {ring.next_seq} and end_seq {self.end_seq} do not fit")
        self.next_seq = seq
        self.skipped = seq - self.published
        store_release(ring.skipped, self.skipped)
        store_release(ring.next_seq, seq)

    cdef bint intact(self) noexcept nogil:
        """Whether the header holds what this writer has written."""
        cdef tick_ring *ring = self.ring
        return not ((ring.published ^ self.published) | (ring.claimed ^ self.claimed)
                    | (ring.next_seq ^ self.next_seq) | (ring.end_seq ^ self.end_seq)
                    | (ring.skipped ^ self.skipped))

    def check(self):
        """Check that the ring's header holds what this writer has written.

        Raises:
            Damaged: it does not.
        """
        cdef tick_ring *ring = self.ring
        if not self.intact():
            raise Damaged(
                f"tick ring: published {ring.published}, claimed {ring.claimed}, next_seq "
                f"{ring.next_seq}, end_seq {ring.end_seq} and skipped {ring.skipped}; the writer wrote "
                f"{self.published}, {self.claimed}, {self.next_seq}, {self.end_seq} and {self.skipped}")

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
        cdef uint64_t burst = max(<uint64_t>1, min(<uint64_t>BURST_TICKS, self.capacity // 4))
        cdef int stop = -1
        if not self.intact():
            return P_DAMAGED
        while stop < 0:
            if position >= self.limit:
                self.limit = self.writable_to()
                if position >= self.limit:
                    stop = P_FULL
                    break
            # Publish after each burst, so that readers start while we are still parsing.
            goal = min(self.limit, position + burst)
            if goal > self.claimed:  # a writer that died may have claimed more
                self.claimed = goal
                store_relaxed(ring.claimed, goal)
            fence_release()
            while position < goal and stop < 0:
                # In blocks, so that the cache misses of a large book overlap.
                parsed = position
                stop = self.parser.read_ticks(
                    at, last, ring.record, self.mask, &parsed, goal, self.book.slot)
                while position < parsed:
                    finish_record(&ring.record[position & self.mask], self.book.slot, seq,
                                  recv_ns, recv_us)
                    position += 1
                    seq += 1
            if self.times is not None and seq != self.next_seq:
                # Before anybody sees the ticks: whoever decides on them finds the time.
                batch_note(self.times.times, self.times.capacity, self.next_seq, seq, recv_ns,
                           monotonic_ns())
            self.published, self.next_seq = position, seq
            store_release(ring.published, position)
            store_release(ring.next_seq, seq)
            futex_wake_if(&ring.data_futex, &ring.data_waiting)
        store_time(ring.heartbeat_ns, recv_ns)
        store_time(self.book.heartbeat_ns, recv_ns)
        return stop

    def push(self, uint8_t[::1] buffer, Py_ssize_t start, Py_ssize_t end, int64_t recv_ns):
        """Parse, write book and ring, publish, wake; ``(ticks, position, stop)`` as parse_ticks.

        FULL: a lossless reader has not read enough; call wait_space, then push the rest.

        Raises:
            Damaged: as :meth:`check`; nothing was written.
        """
        cdef const uint8_t *base = parse_view(buffer, start, end)
        cdef const uint8_t *p = base + start
        cdef uint64_t first = self.ring.published
        cdef int stop
        with nogil:
            stop = self.push_span(&p, base + end, recv_ns)
        if stop == P_DAMAGED:
            self.check()
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

        Raises:
            Damaged: as :meth:`check`.
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
        if stop == P_DAMAGED:
            self.check()
        return (received, self.ring.published - first, p - base, fill, stop, first_ns, recv_ns,
                pieces)

    def lag(self):
        """Ticks that the slowest lossless reader has not taken yet."""
        return self.worst_lag()

    def set_next_seq(self, uint64_t seq):
        """The next tick is ``seq``, not below the present one: ticks before it were refused."""
        if seq < self.next_seq:
            raise ValueError(f"next_seq {seq}: below {self.next_seq}")
        self.next_seq, self.skipped = seq, seq - self.published
        store_release(self.ring.skipped, self.skipped)
        store_release(self.ring.next_seq, seq)

    def finish(self, uint64_t seq):
        """The run is over after ``seq`` ticks."""
        self.end_seq = seq
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
