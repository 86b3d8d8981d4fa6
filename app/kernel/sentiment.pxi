# The sentiment stream: values and, among them, marks; and which of them a tick may see.

cdef inline const uint8_t *read_seq_mark(const uint8_t *p, uint64_t *out) noexcept nogil:
    """``SEQ|n*`` with up to 18 digits; the frame is known to be complete.  Else NULL."""
    cdef uint64_t value = 0
    cdef int digits = 0
    if p[0] != 83 or p[1] != 69 or p[2] != 81 or p[3] != 124:
        return NULL
    p += 4
    while digits < 19 and 48 <= p[0] <= 57:
        value = value * 10 + (p[0] - 48)
        digits += 1
        p += 1
    if not 1 <= digits <= 18 or p[0] != STAR:
        return NULL
    out[0] = value
    return p + 1


def parse_sentiments(FieldParser parser, uint8_t[::1] buffer, Py_ssize_t start, Py_ssize_t end,
                     tick_record[::1] out, uint64_t complete_before):
    """As :func:`parse_ticks`, for sentiments from 0 to 100 and the marks ``SEQ|n*`` among them.

    A sentiment's ``seq`` is the highest mark before it, at least ``complete_before``: no lower tick
    may see it.  Returns ``(sentiments, position, stop, complete_before, marked)``: the highest mark,
    and how many sentiments stand before the last one (-1 without a mark).
    """
    cdef const uint8_t *base = parse_view(buffer, start, end)
    cdef const uint8_t *p = base + start
    cdef const uint8_t *last = base + end
    cdef const uint8_t *after
    cdef Py_ssize_t count = 0, marked = -1, room = out.shape[0]
    cdef tick_record *record = &out[0] if room else NULL
    cdef uint64_t mark = 0
    cdef int stop = -1
    with nogil:
        while count < room and stop < 0:
            stop = parser.read_tick(&p, last, True, &record[count])
            if stop < 0:
                record[count].seq = complete_before
                record[count].recv_us = 0
                count += 1
            elif stop == P_MARK:
                after = read_seq_mark(p, &mark)
                if after != NULL:
                    p, stop, marked = after, -1, count
                    complete_before = max(complete_before, mark)
    return count, p - base, stop if stop >= 0 else P_FULL, complete_before, marked


def join_sentiment(ticks, events, Py_ssize_t next_event, int16_t[::1] latest, int16_t[::1] out):
    """Write to ``out`` each tick's sentiment: its symbol's latest that the tick may see.

    A tick may see an event whose time and ``seq`` are not above its own.  ``events`` is in event
    order; ``latest`` keeps each symbol's sentiment between calls.  Returns the index of the next
    event.
    """
    cdef tick_span span = span_of(ticks), ahead = span_of(events)
    cdef Py_ssize_t i, k = next_event, symbols = latest.shape[0]
    cdef uint64_t symbol = 0
    cdef int64_t next_ns
    if out.shape[0] < span.count:
        raise ValueError("out is shorter than ticks")
    if next_event < 0:
        raise IndexError(next_event)
    with nogil, cython.boundscheck(False):
        next_ns = ahead.at[k].event_ns if k < ahead.count else INT64_MAX
        for i in range(span.count):
            if span.at[i].event_ns >= next_ns:
                while (k < ahead.count and ahead.at[k].event_ns <= span.at[i].event_ns
                        and ahead.at[k].seq <= span.at[i].seq):
                    symbol = ahead.at[k].symbol
                    if symbol >= <uint64_t>symbols:
                        break
                    latest[symbol] = <int16_t>ahead.at[k].price
                    k += 1
                next_ns = ahead.at[k].event_ns if k < ahead.count else INT64_MAX
            symbol = max(symbol, span.at[i].symbol)
            if symbol >= <uint64_t>symbols:
                break
            out[i] = latest[span.at[i].symbol]
    if symbol >= <uint64_t>symbols and span.count:
        raise IndexError(symbol)
    return k
