cimport cython


@cython.final
cdef class Position:
    cdef public cython.py_int qty, cost, realized, mark, fill_no, fees, slippage, impact, borrow
    cdef public cython.py_int turnover, since_ns, open_buy, open_sell

    cpdef charge(self, fee, slippage, impact, borrow)
    cpdef apply(self, side, qty, price, event_ns=*)
    cpdef accrued(self, rate, at_ns)
    cpdef unrealized(self, mark=*)
