from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeASCII

cdef extern from "<string.h>" nogil:
    int strncmp(const char *one, const char *other, size_t length)

cdef enum:
    # Members of an order, as bits.
    HAS_SIDE = 1
    HAS_SYMBOL = 2
    HAS_QTY = 4
    HAS_PRICE = 8
    HAS_TS = 16
    HAS_ID = 32
    HAS_CLIENT = 64
    HAS_PROOF = 128
    HAS_ALL_IT_NEEDS = HAS_SIDE | HAS_SYMBOL | HAS_QTY | HAS_PRICE
    # An answer has at most nine numbers, texts of these sizes, and some 250 bytes of member names.
    NAME_BYTES_MAX = 64
    ANSWER_BYTES_MAX = 1024

cdef int64_t UNITS_C = 1_000_000_000
cdef int64_t EXACT_WHOLE = 2_000_000  # below it, a float has each of a price's nine decimals


cdef const char *text_end(const char *p) noexcept:
    """The closing quote of a JSON string of printable ASCII without escapes; NULL: it is another."""
    while 32 <= p[0] < 127 and p[0] != 34:
        if p[0] == 92:
            return NULL
        p += 1
    if p[0] != 34:
        return NULL
    return p


cdef const char *read_whole(const char *p, int digits_max, int64_t *value) noexcept:
    """A JSON number without sign, fraction and exponent; NULL: it is another, or a longer one."""
    cdef const char *begin = p
    cdef int64_t number = 0
    while 48 <= p[0] <= 57:
        if p - begin == digits_max:
            return NULL
        number = number * 10 + p[0] - 48
        p += 1
    if p == begin or (begin[0] == 48 and p - begin > 1):
        return NULL
    value[0] = number
    return p


cdef const char *read_money(const char *p, int64_t *units) noexcept:
    """A price above 0 and below EXACT_WHOLE with up to nine decimals, exactly; NULL: another."""
    cdef int64_t whole = 0, fraction = 0
    cdef int places = 0
    p = read_whole(p, 7, &whole)
    if p == NULL or whole >= EXACT_WHOLE:
        return NULL
    if p[0] == 46:
        p += 1
        while 48 <= p[0] <= 57:
            if places == 9:
                return NULL
            fraction = fraction * 10 + p[0] - 48
            places += 1
            p += 1
        if places == 0:
            return NULL
        fraction *= NANOS_PER_FRACTION[places]
    units[0] = whole * UNITS_C + fraction
    if units[0] == 0:
        return NULL
    return p


cdef const char *read_time(const char *p) noexcept:
    """The end of a JSON string or number that an order may have as its time; NULL: another."""
    cdef int64_t ignored = 0
    cdef int places = 0
    if p[0] == 34:
        p = text_end(p + 1)
        if p != NULL:
            p += 1
        return p
    p = read_whole(p, 18, &ignored)
    if p != NULL and p[0] == 46:
        p += 1
        while 48 <= p[0] <= 57:
            places += 1
            p += 1
        if places == 0:
            return NULL
    return p


cdef class OrderReader:
    """Reads the frames of orders in the form in which nearly all are written.

    That is an object of members in any order, each at most once, without escapes, type, time in
    force and exponents.  Every other frame, right or wrong, goes to ``otherwise``, which is the
    whole decoder, and gives the same for those of that form.
    """
    cdef object make, otherwise, default_client
    cdef dict symbols, clients
    cdef int64_t id_max, qty_max
    cdef Py_ssize_t ts_bytes_max, proof_bytes
    cdef object last_client
    cdef const char *last_text
    cdef Py_ssize_t last_length

    def __init__(self, make, dict symbols, dict clients, otherwise, *, default_client, int64_t id_max,
                 int64_t qty_max, Py_ssize_t ts_bytes_max, Py_ssize_t proof_bytes):
        """``make`` is called with an order's ten values, ``otherwise`` with any other frame.

        ``symbols``, ``clients``: the names that are known to be valid.
        """
        self.make, self.otherwise, self.default_client = make, otherwise, default_client
        self.symbols, self.clients = symbols, clients
        self.id_max, self.qty_max = id_max, qty_max
        self.ts_bytes_max, self.proof_bytes = ts_bytes_max, proof_bytes
        self.last_client = None

    def read(self, bytes frame not None):
        """The request in one frame."""
        request = self.usual(frame)
        return self.otherwise(frame) if request is None else request

    def read_all(self, list frames not None, list requests not None):
        """Append the requests of ``frames``; an exception leaves those before it."""
        for frame in frames:
            requests.append(self.read(frame))

    cdef object usual(self, bytes frame):
        cdef const char *p = PyBytes_AS_STRING(frame)
        cdef const char *last = p + len(frame)
        cdef const char *value
        cdef int64_t qty = 0, price = 0, number = 0
        cdef int side = 0, seen = 0, member
        ts = order_id = proof = symbol = None
        client = self.default_client
        if p[0] != 123:
            return None
        while True:
            p += 1  # behind the brace or the comma
            if p[0] == 32 and seen:
                p += 1
            member, value = read_key(p)
            if not member or seen & member:
                return None
            seen |= member
            if member == HAS_SIDE:
                if strncmp(value, b'"BUY"', 5) == 0:
                    side, p = 1, value + 5
                elif strncmp(value, b'"SELL"', 6) == 0:
                    side, p = -1, value + 6
                else:
                    return None
            elif member == HAS_QTY:
                p = read_whole(value, 16, &qty)
                if p == NULL or not 0 < qty <= self.qty_max:
                    return None
            elif member == HAS_PRICE:
                p = read_money(value, &price)
                if p == NULL:
                    return None
            elif member == HAS_ID:
                p = read_whole(value, 16, &number)
                if p == NULL or number > self.id_max:
                    return None
                order_id = number
            elif member == HAS_TS:
                p = read_time(value)
                if p == NULL or p - value > self.ts_bytes_max:
                    return None
                ts = PyUnicode_DecodeASCII(value, p - value, NULL)
            else:
                if value[0] != 34:
                    return None
                value += 1
                p = text_end(value)
                if p == NULL:
                    return None
                if member == HAS_SYMBOL:
                    symbol = PyUnicode_DecodeASCII(value, p - value, NULL)
                    if symbol not in self.symbols:
                        return None
                elif member == HAS_CLIENT:
                    client = self.client_of(value, p - value)
                    if client is None:
                        return None
                else:
                    if p - value != self.proof_bytes or memchr(value, 58, p - value) != NULL:
                        return None
                    proof = PyUnicode_DecodeASCII(value, p - value, NULL)
                p += 1
            if p[0] != 44:
                break
        if p[0] != 125 or p + 1 != last or seen & HAS_ALL_IT_NEEDS != HAS_ALL_IT_NEEDS:
            return None
        return self.make(side, symbol, qty, price, ts, order_id, client, 0, 0, proof)

    cdef object client_of(self, const char *text, Py_ssize_t length):
        """The client's name; most orders come from the same as the one before.  None: not known."""
        if (self.last_client is not None and length == self.last_length
                and memcmp(text, self.last_text, length) == 0):
            return self.last_client
        name = PyUnicode_DecodeASCII(text, length, NULL)
        if name not in self.clients:
            return None
        self.last_client = name
        self.last_text = PyUnicode_AsUTF8AndSize(name, &self.last_length)
        return name


cdef (int, const char *) read_key(const char *p) noexcept:
    """Which member begins here, and where its value does; 0: none of those of usual orders."""
    cdef int member = 0, length = 0
    if p[0] != 34:
        return 0, p
    p += 1
    if p[0] == 115:
        if strncmp(p, b'side":', 6) == 0:
            member, length = HAS_SIDE, 6
        elif strncmp(p, b'symbol":', 8) == 0:
            member, length = HAS_SYMBOL, 8
    elif p[0] == 112:
        if strncmp(p, b'price":', 7) == 0:
            member, length = HAS_PRICE, 7
        elif strncmp(p, b'proof":', 7) == 0:
            member, length = HAS_PROOF, 7
    elif strncmp(p, b'qty":', 5) == 0:
        member, length = HAS_QTY, 5
    elif strncmp(p, b'ts":', 4) == 0:
        member, length = HAS_TS, 4
    elif strncmp(p, b'id":', 4) == 0:
        member, length = HAS_ID, 4
    elif strncmp(p, b'client":', 8) == 0:
        member, length = HAS_CLIENT, 8
    p += length
    return member, p + (p[0] == 32)


cdef struct answer_text:
    char *at
    char *limit


cdef int put(answer_text *out, const char *text, Py_ssize_t length) except -1:
    if out.limit - out.at < length:
        raise OverflowError("an answer of an unusual length")
    memcpy(out.at, text, length)
    out.at += length
    return 0


cdef int put_bytes(answer_text *out, bytes text) except -1:
    return put(out, PyBytes_AS_STRING(text), len(text))


cdef int put_whole(answer_text *out, int64_t number) except -1:
    cdef char[20] digits
    cdef int at = 20
    cdef uint64_t left = <uint64_t>number if number >= 0 else ~<uint64_t>number + 1
    while True:
        at -= 1
        digits[at] = 48 + left % 10
        left //= 10
        if not left:
            break
    if number < 0:
        put(out, b"-", 1)
    return put(out, &digits[at], 20 - at)


cdef int put_money(answer_text *out, int64_t units) except -1:
    """Exact decimal text with at least two decimal places."""
    cdef uint64_t size = <uint64_t>units if units >= 0 else ~<uint64_t>units + 1
    cdef uint64_t part = size % <uint64_t>UNITS_C
    cdef char[10] digits
    cdef int i, length = 10
    if units < 0:
        put(out, b"-", 1)
    put_whole(out, size // <uint64_t>UNITS_C)
    digits[0] = 46
    for i in range(9, 0, -1):
        digits[i] = 48 + part % 10
        part //= 10
    while length > 3 and digits[length - 1] == 48:
        length -= 1
    return put(out, &digits[0], length)


cdef bint put_name(answer_text *out, str name) except -1:
    """A JSON string; False if it needs an escape, or is no usual name."""
    cdef Py_ssize_t length, i
    cdef const char *text = PyUnicode_AsUTF8AndSize(name, &length)
    if length > NAME_BYTES_MAX:
        return False
    for i in range(length):
        if 0 <= text[i] < 32 or text[i] == 34 or text[i] == 92 or text[i] == 42:
            return False
    put(out, b'"', 1)
    put(out, text, length)
    put(out, b'"', 1)
    return True


cdef int64_t average(int64_t notional, int64_t qty):
    """``notional / qty`` to the nearest integer, half to even; both are positive."""
    cdef int64_t quotient = notional // qty, rest = notional % qty
    return quotient + (rest > qty - rest or (rest == qty - rest and quotient & 1))


cdef class AckWriter:
    """Writes the answer to an accepted order; ``otherwise`` writes all others, and gives the same."""
    cdef object otherwise
    cdef list statuses, types, tifs

    def __init__(self, otherwise, statuses, types, tifs):
        self.otherwise = otherwise
        self.statuses = [name.encode() for name in statuses]
        self.types = [name.encode() for name in types]
        self.tifs = [name.encode() for name in tifs]

    def write(self, order, str client not None, duplicate=False):
        """The answer as a frame."""
        answer = None
        if not order.code:
            try:
                answer = self.usual(order, client, bool(duplicate))
            except OverflowError:
                pass  # a number of more than 64 bits, or a text that is no usual one
        return self.otherwise(order, client, duplicate) if answer is None else answer

    cdef object usual(self, order, str client, bint duplicate):
        cdef char[ANSWER_BYTES_MAX] text
        cdef answer_text out
        cdef const char *ts
        cdef Py_ssize_t length
        cdef int64_t units = 0, filled = order.filled_qty, notional = order.filled_notional
        cdef int kind = order.type
        out.at, out.limit = text, text + ANSWER_BYTES_MAX
        price = order.price
        if order.exec_count > 1:
            return None
        put_bytes(&out, b'{"ok":true,"order":{"id":')
        put_whole(&out, order.id)
        put_bytes(&out, b',"client":')
        if not put_name(&out, client):
            return None
        put_bytes(&out, b',"side":"BUY","symbol":' if order.side > 0 else b',"side":"SELL","symbol":')
        if not put_name(&out, order.symbol):
            return None
        put_bytes(&out, b',"qty":')
        put_whole(&out, order.qty)
        put_bytes(&out, b',"price":')
        if price is None:
            put_bytes(&out, b"null")
        else:
            units = price
            put_money(&out, units)
        put_bytes(&out, b',"status":"')
        put_bytes(&out, self.statuses[order.status])
        put_bytes(&out, b'","filled_qty":')
        put_whole(&out, filled)
        put_bytes(&out, b',"avg_price":')
        if not filled:
            put_bytes(&out, b"null")
        elif price is not None and <int128>filled * units == notional:
            put_money(&out, units)
        else:
            put_money(&out, average(notional, filled))
        put_bytes(&out, b',"order_no":')
        put_whole(&out, order.order_no)
        if kind:
            put_bytes(&out, b',"type":"')
            put_bytes(&out, self.types[kind])
            put_bytes(&out, b'","tif":"')
            put_bytes(&out, self.tifs[order.tif])
            put_bytes(&out, b'"')
        if order.ts is not None:
            ts = PyUnicode_AsUTF8AndSize(order.ts, &length)
            put_bytes(&out, b',"ts":')
            put(&out, ts, length)
        if order.exec_count:
            put_bytes(&out, b',"exec_ids":[')
            put_whole(&out, order.exec_first)
            put_bytes(&out, b"]")
        if order.fee:
            put_bytes(&out, b',"fee":')
            put_money(&out, order.fee)
        if order.borrow:
            put_bytes(&out, b',"borrow":')
            put_money(&out, order.borrow)
        put_bytes(&out, b'},"duplicate":true}*' if duplicate else b"}}*")
        return PyBytes_FromStringAndSize(text, out.at - text)
