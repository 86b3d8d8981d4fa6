cimport cython

from app.execution.venue cimport Execution
from app.model.orders cimport Order
from app.model.position cimport Position


@cython.final
cdef class Account:
    cdef public object client_no, name, mode, positions, open_orders, id_high, day, day_base
    cdef public object orders_bucket, repeats

    cpdef add_open(self, Order order)
    cpdef remove_open(self, Order order)


@cython.final
cdef class Accounts:
    cdef public Account stack
    cdef public object _rate
    cdef public dict clients, by_number

    @cython.locals(position=Position, total=Position)
    cpdef tuple execute(self, Account client, Order order, Execution execution, fill_no, event_ns)
