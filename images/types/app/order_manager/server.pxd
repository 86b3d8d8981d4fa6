cimport cython

from app.order_manager.access.turn cimport Turn
from app.order_manager.counts cimport Counts
from app.order_manager.order_log cimport OrderLog
from app.order_manager.service cimport OrderService
from app.order_manager.session cimport Session
from app.order_manager.sessions cimport Sessions


cdef class OrderManagerServer:
    cdef public object settings, host, port, note_answers
    cdef public object _metrics, _stop, _store, _room, _prices, _epoll, _wake, _wake_lock
    cdef public object _admission, _refusals, _waiting, _poll_s
    cdef public OrderService _service
    cdef public Sessions _sessions
    cdef public OrderLog _log
    cdef public Turn _turn
    cdef public int _listening
    cdef public bint _traced
    cdef public Py_ssize_t _batch_max
    cdef public double _next_maintenance

    @cython.locals(session=Session, fileno=cython.int, event=cython.int, now=cython.double)
    cdef bint _iterate(self, timeout_s) except -1
    cdef bint _has_work(self) except -1
    cpdef _timeout_s(self)
    @cython.locals(held=cython.Py_ssize_t)
    cdef _receive(self, Session session, int event)
    cdef _enqueue(self, Session session)
    @cython.locals(
        left=cython.Py_ssize_t,
        number=cython.Py_ssize_t,
        session=Session,
        service=OrderService,
        counts=Counts,
        taken=list,
        answers=list,
        sent_ns=cython.longlong,
    )
    cdef _process_batch(self)
    @cython.locals(slower=cython.longlong)
    cdef _resize_batch(self, long long commit_ns)
    cpdef _handle(self, Session session, list frames)
    @cython.locals(done=cython.Py_ssize_t, passes=cython.bint, free=cython.bint, known=set)
    cdef _decide(self, Session session, list frames, list requests)
