cdef class BookView:
    """One price book segment, for its writer and its readers."""
    cdef price_book *book
    cdef object keep
    cdef readonly Py_ssize_t count
    cdef bint writable

    def __init__(self, segment):
        cdef const uint8_t[::1] view = segment
        self.keep = view
        self.writable = not memoryview(segment).readonly
        self.book = <price_book *>&view[0]
        if view.shape[0] >= BOOK_HEADER_BYTES:
            self.count = self.book.symbol_count
        if view.shape[0] < BOOK_HEADER_BYTES + self.count * BOOK_SLOT_BYTES:
            raise ValueError(f"price book: {view.shape[0]} bytes, too small for {self.count} symbols")

    cdef require_writable(self):
        if not self.writable:
            raise TypeError("price book: mapped for reading")

    def put(self, Py_ssize_t index, double price, int64_t event_ns=0, int64_t recv_ns=0, seq=None):
        """Write one price; ``seq`` None: the slot's next.  An older or equal ``seq`` is ignored."""
        self.require_writable()
        if not 0 <= index < self.count:
            raise IndexError(index)
        if not 0.0 < price <= MAX_PRICE:
            raise ValueError(f"price {price!r}: must be finite, above 0, at most {MAX_PRICE:.0f}")
        cdef book_slot *slot = &self.book.slot[index]
        cdef uint64_t number = (load_relaxed(slot.stamp) & STAMP_LOW) >> 1 if seq is None else seq
        book_put(slot, number, event_ns, price, recv_ns)

    def get(self, Py_ssize_t index):
        """``(price, event_ns, recv_ns, seq)``, all of one tick; None if never written.

        Raises:
            Damaged: the slot does not hold what the writer wrote.
        """
        cdef book_cell cell
        if not 0 <= index < self.count:
            raise IndexError(index)
        cdef int64_t seq = book_get(&self.book.slot[index], &cell)
        if seq == DAMAGED:
            raise Damaged(f"price book: the seal of slot {index} does not fit")
        return None if seq < 0 else (cell.price, cell.event_ns, cell.recv_ns, seq)

    def check(self, Py_ssize_t first, Py_ssize_t end):
        """Check the seals of the slots ``first`` to ``end - 1``.

        Raises:
            Damaged: as :meth:`get`.
        """
        cdef book_cell cell
        for index in range(first, min(end, self.count)):
            if book_get(&self.book.slot[index], &cell) == DAMAGED:
                raise Damaged(f"price book: the seal of slot {index} does not fit")

    def heartbeat(self):
        """Publish the writer's heartbeat."""
        self.require_writable()
        store_time(self.book.heartbeat_ns, monotonic_ns())

    def count_gap(self):
        """Count one interruption of the feed."""
        self.require_writable()
        store_relaxed(self.book.gaps, self.book.gaps + 1)

    def repair(self):
        """Copy the live cells' prices to the plain ones: a writer may have died between them."""
        cdef book_cell cell
        self.require_writable()
        for index in range(self.count):
            if book_get(&self.book.slot[index], &cell) >= 0:
                self.book.slot[index].price = cell.price

    @property
    def heartbeat_ns(self):
        """CLOCK_MONOTONIC of the writer's last heartbeat."""
        return self.book.heartbeat_ns

    @property
    def gaps(self):
        """Interruptions of the feed, counted by the writer."""
        return self.book.gaps

    @property
    def boot_id(self):
        """Random number of this segment; a new segment of the same name has another."""
        return self.book.boot_id
