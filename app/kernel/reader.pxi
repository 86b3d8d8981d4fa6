cdef class TickReader(RingView):
    """One registered reader of the ring; its cursor is kept in the shared slot."""
    cdef ring_reader *registration
    cdef uint64_t cursor, gap, copied, copied_gap
    cdef readonly uint64_t lost
    cdef readonly uint64_t last_seq
    """Of the ticks copied last."""

    def __init__(self, uint8_t[::1] ring, Py_ssize_t slot):
        RingView.__init__(self, ring)
        self.registration = self.slot(slot)
        self.cursor = load_acquire(self.registration.cursor)
        self.lost = self.registration.lost
        self.gap = self.copied = self.copied_gap = self.last_seq = 0

    cdef uint64_t follow(self, const tick_record *at, uint64_t position,
                         uint64_t count, bint in_sequence) noexcept nogil:
        """Check ``count`` records, the first at ring position ``position``; return how many fit.

        ``in_sequence``: they have their seals, and sequences without a gap.
        """
        cdef uint64_t i, gap, last_gap = self.gap
        self.copied = position + count
        self.copied_gap = last_gap
        if in_sequence:
            return count
        # The source has left out sequences, or there is damage.
        for i in range(count):
            gap = at[i].seq - (position + i)
            if gap < last_gap or gap > load_acquire(self.ring.skipped) or seal_broken(&at[i]):
                return i
            last_gap = gap
        self.copied_gap = last_gap
        return count

    cdef refuse(self, uint64_t position):
        cdef tick_record *record = &self.ring.record[position & self.mask]
        raise Damaged(
            f"tick ring: record {position} of {self.ring.published} has sequence {record.seq}, and "
            f"its seal {'does not fit' if seal_broken(record) else 'fits'}")

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
            if load_acquire(self.registration.cursor) != self.cursor:
                # Damaged: the writer might wait for this reader for ever.
                store_release(self.registration.cursor, self.cursor)
                futex_wake_if(&ring.space_futex, &ring.space_waiting)
            with nogil:
                seen = load_word(ring.data_futex)
                store_word(ring.data_waiting, 1)
                fence_full()
                if self.ahead() == 0 and load_acquire(ring.end_seq) == NO_END_C:
                    futex_wait(&ring.data_futex, seen, timeout_ns)
        return self.ahead()

    def copy(self, out):
        """Copy unread ticks to ``out``, skip overwritten ones (latest policy); return the number copied.

        Never in place: a tick that is damaged after its check must not be traded on.  A lapped reader
        resumes half a ring behind the writer, so it is not lapped again at once.

        Raises:
            Damaged: a record does not follow on, or its seal does not fit.
        """
        cdef tick_ring *ring = self.ring
        cdef uint64_t ahead, start, count, claimed, fits
        cdef bint in_sequence
        cdef tick_span room = span_of(out, PyBUF_WRITABLE)
        cdef tick_record *to = <tick_record *>room.at
        while True:
            in_sequence = False  # unless it is copied: a damaged ``published`` may be too far ahead
            ahead = self.ahead()
            start = self.cursor & self.mask
            count = min(ahead, <uint64_t>room.count, self.capacity - start)
            if count and ahead <= self.capacity:
                in_sequence = not copy_records(
                    to, &ring.record[start], count, self.cursor + self.gap)
            fence_acquire()
            claimed = load_relaxed(ring.claimed)
            if claimed <= self.cursor + self.capacity:
                fits = self.follow(to, self.cursor, count, in_sequence) if count else 0
                if fits < count:
                    self.refuse(self.cursor + fits)
                if count:
                    self.last_seq = to[count - 1].seq
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
        if self.cursor >= self.copied:
            self.gap = self.copied_gap
        store_release(self.registration.cursor, self.cursor)
        # Wake the writer only at half a ring of space: a wake-up costs more than a thousand ticks.
        if self.ahead() <= self.capacity // 2:
            futex_wake_if(&ring.space_futex, &ring.space_waiting)
