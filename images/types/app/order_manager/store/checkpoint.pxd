cimport cython


cdef class Checkpointer:
    cdef public object read_marks
    cdef public Py_ssize_t wal_pages
    cdef public dict unwritten
    cdef object _stored, _path, _errors
    cdef dict _next_warning_s
    cdef double _marks_read_s
    cdef public double _last_batch_s

    cpdef end_batch(self, dict changed)
    cpdef bint checkpoint_due(self, connection, bint idle) except -1
    cpdef bint positions_due(self, bint idle) except -1
