cimport cython

from app.model.orders cimport Order
from app.model.position cimport Position


@cython.final
cdef class Borrow:
    cdef readonly object rate
    cdef object _is_strategys

    cpdef time_of(self, Order order, client, now_ns, book_ns=*)
    cpdef accrued(self, client, Position position, mark_ns, now_ns)
