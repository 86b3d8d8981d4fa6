# cython: language_level=3, boundscheck=True, wraparound=False, cdivision=True
# cython: initializedcheck=False, freethreading_compatible=False
"""The compiled kernel: everything that runs once per tick.

Receives and parses the text feed, writes the price book and the ring, hands batches to readers, and
runs the inner loops of strategies.  Memory layout, fences and futexes are in ``layout.h``.  The twin
in ``plain`` does the same in plain Python, and takes its place where there is no compiler.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_XDECREF, Py_XINCREF
from libc.errno cimport errno
from libc.math cimport llrint
from libc.stdint cimport INT64_MAX, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset

cimport cython

cdef extern from *:
    # A sum of int64 prices over a window can exceed 64 bits.
    ctypedef long long int128 "__int128"
    int __builtin_ctzll(unsigned long long) nogil

cdef extern from "Python.h":
    ctypedef struct PyMemberDef:
        const char *name
        int type
        Py_ssize_t offset
        int flags
    Py_ssize_t Py_REFCNT(object)
    PyObject *PyList_GET_ITEM(list, Py_ssize_t)
    PyObject *PyFloat_FromDouble(double) except NULL
    PyObject *PyLong_FromLong(long) except NULL
    object PyDescr_NewMember(PyTypeObject *, PyMemberDef *)
    void PyType_Modified(PyTypeObject *)

cdef extern from "structmember.h":
    int T_OBJECT_EX, READONLY

cdef extern from "<sys/mman.h>" nogil:
    int PROT_READ
    int mprotect(void *at, size_t length, int protection)

cdef extern from "<unistd.h>" nogil:
    const int PAGE_SIZE "_SC_PAGESIZE"
    long sysconf(int name)

cdef extern from "<sys/socket.h>" nogil:
    Py_ssize_t recv(int descriptor, void *buffer, size_t length, int flags)

cdef extern from "layout.h" nogil:
    const uint32_t LAYOUT_VERSION_C "LAYOUT_VERSION"
    const uint64_t BOOK_MAGIC_C "BOOK_MAGIC"
    const uint64_t RING_MAGIC_C "RING_MAGIC"
    const uint64_t NO_END_C "NO_END"
    const int MAX_READERS_C "MAX_READERS"
    const int SYMBOL_BYTES_MAX_C "SYMBOL_BYTES_MAX"
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
        uint16_t seal
        uint16_t symbol
        uint32_t recv_us
    ctypedef struct ring_reader:
        uint32_t state
        uint64_t cursor, lost
        char *name
    ctypedef struct tick_ring:
        uint64_t magic, capacity, boot_id, published, claimed, next_seq, end_seq, skipped
        uint32_t layout_version, record_bytes, policy
        int64_t heartbeat_ns
        uint32_t data_futex, data_waiting, space_futex, space_waiting
        ring_reader *reader
        tick_record *record
    void prefetch(const void *)
    void book_put(book_slot *slot, uint64_t seq, int64_t event_ns, double price, int64_t recv_ns)
    int64_t book_get(book_slot *slot, book_cell *out)
    const int64_t NEVER_WRITTEN, DAMAGED
    const uint64_t STAMP_LOW
    void finish_record(tick_record *record, book_slot *slots, uint64_t seq, int64_t recv_ns,
                       uint32_t recv_us)
    bint seal_broken(const tick_record *record)
    bint copy_records(tick_record *to, const tick_record *at, uint64_t count, uint64_t first_seq)
    uint64_t load_relaxed(uint64_t)
    uint64_t load_acquire(uint64_t)
    uint32_t load_word "load_acquire"(uint32_t)
    void store_relaxed(uint64_t, uint64_t)
    void store_word "store_relaxed"(uint32_t, uint32_t)
    void store_state "store_release"(uint32_t, uint32_t)
    void store_time "store_relaxed"(int64_t, int64_t)
    void store_release(uint64_t, uint64_t)
    void fence_acquire()
    void fence_release()
    void fence_full()
    long futex_wait(uint32_t *word, uint32_t seen, int64_t timeout_ns)
    void futex_wake_if(uint32_t *word, uint32_t *waiting)
    double decimal_to_double(const char *text, char **end)
    int64_t monotonic_ns()
    uint64_t histogram_index(uint64_t value)

cdef extern from "trace.h" nogil:
    const int TRACE_STAGES_C "TRACE_STAGES"
    const int TRACE_CLIENT_BYTES_C "TRACE_CLIENT_BYTES"
    ctypedef struct trace_record:
        int64_t id
        uint32_t kind, flags
        int64_t *stage_ns
        char *client
    ctypedef struct trace_ring:
        uint64_t claimed
    ctypedef struct trace_batch:
        int64_t at_ns, done_ns
    ctypedef struct trace_batches:
        uint64_t count
    uint64_t trace_claim(trace_ring *ring, uint64_t count)
    void trace_put(trace_ring *ring, uint64_t capacity, uint64_t position, trace_record *source)
    void batch_note(trace_batches *times, uint64_t capacity, uint64_t first_seq, uint64_t end_seq,
                    int64_t at_ns, int64_t done_ns)
    bint batch_find(trace_batches *times, uint64_t capacity, uint64_t seq, int64_t limit_ns,
                    trace_batch *out)

cdef extern from "scan.h" nogil:
    ctypedef struct tick_fields:
        uint64_t digits
        int fraction, symbol_bytes
    ctypedef struct symbol_key:
        uint64_t head
        uint32_t tail
    const int TAIL_LENGTH_SHIFT
    const uint32_t HASHED_TAIL
    int symbol_length(const uint8_t *p)
    symbol_key key_of(const uint8_t *p, int length)
    bint is_symbol(const uint8_t *symbol, const uint8_t *text, uint32_t tail)
    int have_vectors()
    uint64_t load_text(const uint8_t *p)
    uint64_t first_bytes(uint64_t word, int length)
    const uint8_t *read_symbol_and_price(const uint8_t *p, tick_fields *out)
    const uint8_t *read_long_symbol_and_price(const uint8_t *p, tick_fields *out)

cdef bint HAVE_VECTORS = have_vectors()


def use_vectors(bint wanted):
    """For tests: False parses as on a CPU without SSE4.1.  Returns the previous value."""
    global HAVE_VECTORS
    before = HAVE_VECTORS
    HAVE_VECTORS = wanted and have_vectors()
    return before


cdef enum:
    P_NEED_MORE = 0
    P_FULL = 1
    P_MARK = 2
    P_BAD_TIMESTAMP = 3
    P_BAD_SYMBOL = 4
    P_BAD_PRICE = 5
    P_BAD_SENTIMENT = 6
    P_DAMAGED = 7
    STAR = 42
    MAX_PRICE_TEXT_BYTES = 64
    BURST_TICKS = 8192
    BLOCK_TICKS = 32
    SLACK_BYTES = 64
    SYMBOLS_MAX = 65536

cdef uint64_t NO_TEXT = ~<uint64_t>0  # differs from any four bytes of text

COMPILED = True  # the plain kernel, in ``plain``, has False
LAYOUT_VERSION = LAYOUT_VERSION_C
BOOK_MAGIC = BOOK_MAGIC_C
RING_MAGIC = RING_MAGIC_C
NO_END = NO_END_C
MAX_READERS = MAX_READERS_C
SYMBOL_BYTES_MAX = SYMBOL_BYTES_MAX_C
BOOK_HEADER_BYTES = 4096
BOOK_SLOT_BYTES = 128
RING_HEADER_BYTES = 8192
RECORD_BYTES = sizeof(tick_record)
READER_NAME_BYTES = 40
PARSE_SLACK_BYTES = SLACK_BYTES
"""Bytes that a buffer must have after its data: the parser writes sentinels there."""

# Why a parse call stopped.
NEED_MORE, FULL, MARK, BAD_TIMESTAMP, BAD_SYMBOL, BAD_PRICE, BAD_SENTIMENT = range(7)

cdef double MIN_PRICE = 1e-9, MAX_PRICE = 9e9
cdef double[19] POWER_OF_TEN
cdef int64_t[10] NANOS_PER_FRACTION
for _i in range(19):
    POWER_OF_TEN[_i] = 10.0 ** _i
for _i in range(10):
    NANOS_PER_FRACTION[_i] = 10 ** (9 - _i)


class Damaged(Exception):
    """Shared memory holds what its writer did not write; the message says what and where."""


cdef struct tick_span:
    const tick_record *at
    Py_ssize_t count


cdef tick_span span_of(object ticks, int flags=PyBUF_SIMPLE) except *:
    """The records of a TICK_DTYPE array (or a slice of one, C-contiguous).

    A typed memoryview would do the same but cost a microsecond a call, because it parses the array's
    format string every time.  The caller's reference keeps the memory alive.
    """
    cdef Py_buffer view
    cdef tick_span span
    PyObject_GetBuffer(ticks, &view, flags)
    span.at = <const tick_record *>view.buf
    span.count = view.len // <Py_ssize_t>sizeof(tick_record)
    cdef bint whole = view.len == span.count * <Py_ssize_t>sizeof(tick_record)
    PyBuffer_Release(&view)
    if not whole:
        raise ValueError(f"{view.len} bytes are not a whole number of ticks")
    return span


cdef inline Py_ssize_t next_signal(const int8_t[::1] signals, Py_ssize_t i) noexcept nogil:
    """Where the next signal other than HOLD is, from ``i`` on; the end if there is none."""
    cdef Py_ssize_t n = signals.shape[0]
    cdef uint64_t eight
    with cython.boundscheck(False):
        while i + 8 <= n:
            memcpy(&eight, &signals[i], 8)
            if eight:
                return i + (__builtin_ctzll(eight) >> 3)
            i += 8
        while i < n and signals[i] == 0:
            i += 1
    return i


include "parse.pxi"
include "signals.pxi"
include "book.pxi"
include "trace.pxi"
include "order_frames.pxi"
include "ring.pxi"
include "reader.pxi"
include "loops.pxi"
include "equity.pxi"
