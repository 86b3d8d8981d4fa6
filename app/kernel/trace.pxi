cdef enum:
    T_SENT = 1  # the strategy: decided and sent, and where its tick was before
    T_HANDLED = 2  # the order manager: received, committed, answered
    T_ACKED = 3  # the strategy: the answer has come
    F_OK = 1
    F_DUPLICATE = 2
    # Indexes into stage_ns.
    S_DUE = 0
    S_TICK_SENT = 1
    S_TICK_RECEIVED = 2
    S_PUBLISHED = 3
    S_DECIDED = 4
    S_ORDER_SENT = 5
    S_ORDER_RECEIVED = 6
    S_COMMITTED = 7
    S_ACK_SENT = 8
    S_ACK_RECEIVED = 9

TRACE_STAGES, TRACE_CLIENT_BYTES = TRACE_STAGES_C, TRACE_CLIENT_BYTES_C
TRACE_HEAD_BYTES = 64
TRACE_RECORD_BYTES = sizeof(trace_record)
TRACE_BATCH_BYTES = sizeof(trace_batch)
TRACE_SENT, TRACE_HANDLED, TRACE_ACKED = T_SENT, T_HANDLED, T_ACKED
TRACE_OK, TRACE_DUPLICATE = F_OK, F_DUPLICATE

cdef extern from "<string.h>" nogil:
    void *memmem(const void *where, size_t length, const void *what, size_t what_length)

cdef bytes ACKED_HEAD = b'{"ok":true,"order":{"id":'
cdef bytes ORDER_MEMBER = b'"order":{"id":'
cdef bytes CLIENT_MEMBER = b',"client":"'
cdef bytes DUPLICATE_TAIL = b',"duplicate":true}*'


cdef class BatchTimes:
    """When batches of ticks were handed on, by one process; the latest of them."""
    cdef trace_batches *times
    cdef object keep
    cdef uint64_t capacity

    def __init__(self, uint8_t[::1] memory):
        self.keep = memory
        self.times = <trace_batches *>&memory[0]
        if memory.shape[0] < 64 + 2 * 32:
            raise ValueError(f"times of batches: {memory.shape[0]} bytes")
        self.capacity = (memory.shape[0] - 64) // 32

    def note(self, uint64_t first_seq, uint64_t end_seq, int64_t at_ns, int64_t done_ns=0):
        """Note the batch of the ticks below ``end_seq``; ``at_ns`` never falls."""
        batch_note(self.times, self.capacity, first_seq, end_seq, at_ns, done_ns)

    def find(self, uint64_t seq, int64_t limit_ns):
        """``(at_ns, done_ns)`` of the latest batch up to ``limit_ns`` that has the tick; or None."""
        cdef trace_batch found
        if batch_find(self.times, self.capacity, seq, limit_ns, &found):
            return found.at_ns, found.done_ns
        return None


cdef class OrderTrace:
    """A ring of what happened to orders, one record for each step; any process may write."""
    cdef trace_ring *ring
    cdef object keep
    cdef uint64_t capacity

    def __init__(self, uint8_t[::1] memory):
        self.keep = memory
        self.ring = <trace_ring *>&memory[0]
        if memory.shape[0] < 64 + 192:
            raise ValueError(f"trace of orders: {memory.shape[0]} bytes")
        self.capacity = (memory.shape[0] - 64) // 192

    def append(self, uint32_t kind, uint32_t flags, int64_t order_id, bytes client, stages):
        """Write one record; ``stages``: all times, in ns, 0 for what is not known."""
        cdef trace_record record
        cdef Py_ssize_t i
        memset(&record, 0, sizeof(record))
        record.id, record.kind, record.flags = order_id, kind, flags
        set_client(&record, client)
        for i in range(TRACE_STAGES_C):
            record.stage_ns[i] = stages[i]
        trace_put(self.ring, self.capacity, trace_claim(self.ring, 1), &record)

    def sent(self, bytes client, list orders, list intents, Py_ssize_t first, int64_t decided_ns,
             int64_t sent_ns, BatchTimes gateway, BatchTimes orderbook):
        """The orders from ``first`` on were sent; ``orders``: tuples that begin with the id.

        ``gateway``, ``orderbook``: when the ticks were sent and published; None: not known.
        """
        cdef trace_record record
        cdef trace_batch found
        cdef Intent intent
        cdef Py_ssize_t i, count = len(orders)
        cdef uint64_t position
        cdef int64_t received_ns, now_us = sent_ns // 1000
        if first >= count:
            return
        if len(intents) != count:
            raise ValueError(f"{len(intents)} intents for {count} orders")
        memset(&record, 0, sizeof(record))
        record.kind = T_SENT
        set_client(&record, client)
        record.stage_ns[S_DECIDED], record.stage_ns[S_ORDER_SENT] = decided_ns, sent_ns
        position = trace_claim(self.ring, count - first)
        for i in range(first, count):
            intent = <Intent?>intents[i]
            record.id = orders[i][0]
            if orderbook is not None:
                # The record of the tick has microseconds, and wraps every hour.
                received_ns = (now_us - <int64_t>(<uint32_t>now_us - intent.recv_us)) * 1000
                record.stage_ns[S_TICK_SENT] = record.stage_ns[S_PUBLISHED] = 0
                if batch_find(orderbook.times, orderbook.capacity, intent.seq, received_ns + 999,
                              &found) and found.at_ns >= received_ns:
                    received_ns = found.at_ns
                    record.stage_ns[S_PUBLISHED] = found.done_ns
                record.stage_ns[S_TICK_RECEIVED] = received_ns
                if gateway is not None and batch_find(
                        gateway.times, gateway.capacity, intent.seq, received_ns, &found):
                    record.stage_ns[S_TICK_SENT] = found.at_ns
            trace_put(self.ring, self.capacity, position, &record)
            position += 1

    def acked(self, bytes client, list orders, list answers, list due_ns, list sent_ns,
              int64_t acked_ns):
        """The answers have come; ``due_ns``: of each tick, 0 if it has no time.

        ``sent_ns``: when each order was sent, the last time.
        """
        cdef trace_record record
        cdef Py_ssize_t i, count = len(orders)
        cdef uint64_t position
        if not len(answers) == len(due_ns) == len(sent_ns) == count:
            raise ValueError(f"{len(answers)} answers for {count} orders, or as many times")
        if not count:
            return
        memset(&record, 0, sizeof(record))
        record.kind = T_ACKED
        set_client(&record, client)
        record.stage_ns[S_ACK_RECEIVED] = acked_ns
        position = trace_claim(self.ring, count)
        for i in range(count):
            record.id = orders[i][0]
            record.stage_ns[S_DUE], record.stage_ns[S_ORDER_SENT] = due_ns[i], sent_ns[i]
            answer = answers[i]
            record.flags = (F_OK if answer.ok else 0) | (F_DUPLICATE if answer.duplicate else 0)
            trace_put(self.ring, self.capacity, position, &record)
            position += 1

    def handled(self, list answers, only, int64_t committed_ns, int64_t sent_ns,
                OrderTrace repeats):
        """The order manager sends ``answers`` now: of each, its session and its frame.

        ``only``: ids of the orders among them, None: all.  A repeated answer goes into ``repeats``.
        """
        put_handled(self, repeats, answers, only, committed_ns, sent_ns)


cdef class AnswerNotes:
    """What the order manager notes between commit and ACK, so in C, with one call."""
    cdef OrderTrace orders, repeats

    def __init__(self, OrderTrace orders not None, OrderTrace repeats not None):
        self.orders, self.repeats = orders, repeats

    def note(self, list answers, counts, list events):
        """``answers`` are sent now.  ``counts``: of the batch; ``events``: its events for the log.

        A batch without a commit has orders that were committed before.
        """
        cdef int64_t sent_ns = monotonic_ns(), committed_ns = counts.committed_ns
        cdef Py_ssize_t acked = counts.orders_acked, duplicate = counts.orders_duplicate
        only = None
        if acked + duplicate != len(answers):
            # Others look alike: the answer to a cancel has the order, too.
            only = {event[1].id for event in events if isinstance(event, tuple)}
        put_handled(self.orders, self.repeats, answers, only,
                    committed_ns if committed_ns else sent_ns, sent_ns)


cdef int put_handled(OrderTrace orders, OrderTrace repeats, list answers, only,
                     int64_t committed_ns, int64_t sent_ns) except -1:
    cdef trace_record record
    cdef OrderTrace ring
    memset(&record, 0, sizeof(record))
    record.kind = T_HANDLED
    record.stage_ns[S_COMMITTED], record.stage_ns[S_ACK_SENT] = committed_ns, sent_ns
    for session, frame in answers:
        if not read_answer(<bytes?>frame, &record) or (only is not None and record.id not in only):
            continue
        record.stage_ns[S_ORDER_RECEIVED] = session.last_ns
        ring = repeats if record.flags & F_DUPLICATE else orders
        trace_put(ring.ring, ring.capacity, trace_claim(ring.ring, 1), &record)
    return 0


cdef int set_client(trace_record *record, bytes client) except -1:
    cdef Py_ssize_t length = len(client)
    if length > TRACE_CLIENT_BYTES_C:
        raise ValueError(f"client of {length} bytes")
    memset(&record.client[0], 0, TRACE_CLIENT_BYTES_C)
    memcpy(&record.client[0], <const char *>client, length)
    return 0


cdef bint read_answer(bytes frame, trace_record *record) except -1:
    """Take id, client and flags from an answer to an order; False if it is another."""
    cdef const char *p = frame
    cdef const char *last = p + len(frame)
    cdef const char *begin
    cdef int64_t number = 0
    cdef Py_ssize_t length
    if last - p < 64:
        return False
    record.flags = 0
    if memcmp(p, <const char *>ACKED_HEAD, len(ACKED_HEAD)) == 0:
        record.flags = F_OK
        p += len(ACKED_HEAD)
    else:
        # Inside a JSON string, each quote has a backslash before it.
        p = <const char *>memmem(p, last - p, <const char *>ORDER_MEMBER, len(ORDER_MEMBER))
        if p == NULL:
            return False
        p += len(ORDER_MEMBER)
    while p < last and 48 <= p[0] <= 57 and number < (<int64_t>1 << 58):
        number = number * 10 + p[0] - 48
        p += 1
    if last - p < <Py_ssize_t>len(CLIENT_MEMBER) or memcmp(
            p, <const char *>CLIENT_MEMBER, len(CLIENT_MEMBER)):
        return False
    p += len(CLIENT_MEMBER)
    begin = p
    while p < last and p[0] != 34 and p[0] != 92:
        p += 1
    if p < last and p[0] == 92:
        set_client(record, unescaped(frame[begin - <const char *>frame:]))
    else:
        length = p - begin
        if length > TRACE_CLIENT_BYTES_C:
            return False
        memset(&record.client[0], 0, TRACE_CLIENT_BYTES_C)
        memcpy(&record.client[0], begin, length)
    record.id = number
    length = len(DUPLICATE_TAIL)
    if memcmp(last - length, <const char *>DUPLICATE_TAIL, length) == 0:
        record.flags |= F_DUPLICATE
    return True


def unescaped(bytes text):
    """The JSON string that ``text`` begins with, behind its first quote, as UTF-8."""
    from json.decoder import scanstring
    return scanstring(text.decode(), 0)[0].encode()
