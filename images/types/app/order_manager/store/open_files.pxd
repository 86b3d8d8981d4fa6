cimport cython


cdef class OpenFiles:
    cdef object _path, _copy, _kept
    cdef tuple _tails
    cdef dict _seen
    cdef list _handles
    cdef long long _looked_ns

    cpdef bint intact(self) except -1
