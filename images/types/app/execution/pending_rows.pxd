cimport cython


@cython.final
cdef class PendingRows:
    cdef public list clients, orders, fills, controls
    cdef public dict positions, states, days

    cpdef clear(self)
