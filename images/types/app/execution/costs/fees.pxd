cimport cython


@cython.final
cdef class Fees:
    cdef object _per_share, _minimum, _bps
    cdef readonly bint any

    cpdef of(self, qty, notional)
