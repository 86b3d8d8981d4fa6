cimport cython


@cython.final
cdef class Session:
    cdef public object sock, peer, bucket, grant, key, cancels, tls
    cdef public int fileno, mask
    cdef public bytes rest, unsent
    cdef public object frames
    cdef public set known
    cdef public Py_ssize_t held_bytes, frame_bytes_max
    cdef public long long stalled_ns, last_ns, since_ns
    cdef public bint waiting, postponed, authorized, handshaking, read_any, oversize, ended
    cdef public bint closing, lingering

    cpdef tuple free_pass(self)
    @cython.locals(data=bytes, frames=list, rest=bytes)
    cpdef bint receive(self) except -1
    @cython.locals(sent=Py_ssize_t)
    cpdef bint send(self, bytes data) except -1
