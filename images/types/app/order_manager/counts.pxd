cimport cython


@cython.final
cdef class Counts:
    cdef public long long orders_received, orders_acked, orders_rejected, orders_duplicate, fills
    cdef public long long frames_bad, requests_refused, commits, commit_ns, committed_ns

    cpdef clear(self)
