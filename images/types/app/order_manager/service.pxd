cimport cython

from app.model.orders cimport Order, OrderRequest
from app.order_manager.counts cimport Counts


cdef class OrderService:
    cdef public object core
    cdef public object store, queries, held, marks, grant_of, bus
    cdef public object decode_all, _encode_ack, _clock
    cdef public Counts counts
    cdef public list events
    cdef public bint available
    cdef public long long now_ns
    cdef list _answers, _uncommitted, _canceling
    cdef dict _left, _to_cancel
    cdef public object _batch_error, _retry_ns
    cdef long long _fills_before
    cdef double _bus_lost_s
    cdef bint _restricts

    @cython.locals(order=Order)
    cpdef begin(self)
    @cython.locals(counts=Counts, order=Order)
    cdef _new_order(self, peer, OrderRequest request)
    cpdef list finish(self)
    cdef list _encode_answers(self)
