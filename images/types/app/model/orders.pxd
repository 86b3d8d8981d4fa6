cimport cython


cdef tuple _NEXT
cdef Py_ssize_t _EVENTS

cpdef object db_int(object value)
cpdef order_id_of_tick(seq, nth=*)
cpdef object next_status(object status, object event)


cdef class Record:
    pass


@cython.final
cdef class OrderRequest(Record):
    cdef public cython.py_int side, qty, price, id, type, tif
    cdef public str symbol, ts, client, proof


@cython.final
cdef class Order(Record):
    cdef public cython.py_int order_no, client_no, id, at_ns, side, qty, price, type, tif, status
    cdef public cython.py_int filled_qty, filled_notional, exec_first, exec_count, exec_price, code
    cdef public cython.py_int fee, slippage, impact, borrow, event_ns
    cdef public str symbol, ts, msg

    cpdef apply(self, event)
    cpdef fill(self, qty, price)
    cpdef tuple row(self)
    cpdef Order copy(self)


@cython.locals(request=OrderRequest)
cpdef OrderRequest request_of(side, symbol, qty, price, ts, order_id, client)
@cython.locals(order=Order)
cpdef Order order_of(OrderRequest request, order_no, client_no, order_id, at_ns)
@cython.locals(order=Order)
cpdef Order executed_order(
    order_no, client_no, order_id, at_ns, side, str symbol, qty, price, str ts, fill_no
)
