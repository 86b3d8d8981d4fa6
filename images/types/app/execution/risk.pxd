cimport cython

from app.execution.accounts cimport Account
from app.execution.risk_context cimport AccountLimits, RiskContext
from app.model.orders cimport Order, OrderRequest


@cython.final
cdef class RiskGate:
    cdef public object config
    cdef public Account stack
    cdef public RiskContext _context
    cdef dict _codes
    cdef tuple _checks, _checks_when_active
    cdef AccountLimits _repeats, _daily_loss
    cdef readonly bint counts_repeats, watches_loss

    cpdef bint all_active(self, Account client) except -1
    cpdef check(self, OrderRequest order, Account client, now_ns)
    cpdef at_tick(self, proof)
    cpdef begin_order(self, OrderRequest order, marks)
    cpdef end_order(self)
    cpdef event_ns(self, OrderRequest order)
    cpdef executed(self, Order order, Account client, now_ns)
