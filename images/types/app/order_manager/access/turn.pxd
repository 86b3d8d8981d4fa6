cimport cython

from app.order_manager.session cimport Session


cdef class Turn:
    cdef public long long batch_ns_max
    cdef long long _begin_ns, _query_ns, _switched_ns
    cdef Session _latest

    cpdef begin(self)
    cpdef bint is_over(self) except -1
    @cython.locals(count=Py_ssize_t, size=Py_ssize_t, taken=list)
    cpdef list take(self, Session session, Py_ssize_t left, Py_ssize_t others)
    cpdef bint query_waits(self) except -1
