cimport cython

from app.order_manager.session cimport Session


cdef class Sessions:
    cdef public object dropped, penalties, left
    cdef public dict by_fileno
    cdef object _epoll, _listener, _tls, _keyring, _refused
    cdef dict _strangers
    cdef set _time_limited
    cdef long long _input_bytes, _input_max, _max, _in_flight_max, _unsent_max, _stall_ns, _idle_ns
    cdef object _frames_per_s
    cdef bint _accepting, _pause_logged

    cpdef note_input(self, long long size)
    @cython.locals(mask=cython.int)
    cpdef watch(self, Session session)
    cpdef send(self, Session session, bytes data)
    @cython.locals(session=Session, joined=dict, parts=list)
    cpdef list send_all(self, list answers)
