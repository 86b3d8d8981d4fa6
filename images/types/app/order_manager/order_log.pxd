from app.model.timestamps cimport utc_text
cimport cython

from app.model.orders cimport Order


cdef class OrderLog:
    cdef public object dropped
    cdef object _qty_text, _poll
    cdef bint _enabled, _only_warnings, _json, _is_file
    cdef int _descriptor
    cdef bytes _backlog
    cdef list _unmade
    cdef Py_ssize_t _unmade_events, _chunk_bytes
    cdef long long _oldest_ns

    cpdef write(self, list events, long long now_ns)
    @cython.locals(now_ns=cython.longlong, events=list)
    cdef _make_lines(self)
    cdef _append(self, list events, long long now_ns)
    cpdef drain(self)


@cython.locals(order=Order, lines=list)
cdef list _text_lines(list events, str info, str warning, qty_text)
