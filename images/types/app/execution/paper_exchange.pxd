cimport cython

from app.execution.costs.fees cimport Fees
from app.execution.costs.slippage cimport Slippage
from app.execution.venue cimport Execution, Report, execution_of, report_of
from app.model.orders cimport Order


cdef class PaperExchange:
    cdef public object _prices, _fill_percent, _seed
    cdef Fees _fees
    cdef Slippage _slippage
    cdef bint _is_free
    cdef dict _resting, _seen

    cpdef Report submit(self, Order order, at_tick)
    cdef Report _execute_or_rest(self, Order order, price, market)
    cdef _market(self, Order order)
    cdef _slipped(self, market, Order order)
    cdef Execution _execution(self, Order order, price, market)
    cdef _quantity_now(self, Order order)


cdef class EchoVenue(PaperExchange):
    pass


cdef bint _marketable(Order order, price) except -1
