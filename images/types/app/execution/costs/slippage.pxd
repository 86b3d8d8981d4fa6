cimport cython


@cython.final
cdef class Slippage:
    cdef object _flat, _impact, _impact_qty
    cdef readonly bint any

    cpdef flat(self, price)
    cpdef worse(self, price, qty)
    cpdef taker_price(self, price, side, qty)
