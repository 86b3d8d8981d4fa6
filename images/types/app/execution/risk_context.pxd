cimport cython

from app.execution.accounts cimport Account
from app.model.orders cimport OrderRequest
from app.model.position cimport Position


@cython.final
cdef class RiskContext:
    cdef public object prices, replaying, repeat_window_ns, needs_market, qty_text, amount_text
    cdef public object tick_marks, symbol_known, fresh_price
    cdef public Account stack

    cpdef in_mode(self, mode, Account client)
    cpdef mark(self, symbol, Position position)
    cpdef price_of(self, OrderRequest order, Account client)


@cython.final
cdef class AccountLimits:
    cdef tuple _on_stack
    cdef public object client, stack, tightest

    cpdef of(self, Account account)
    cpdef tuple on(self, Account client)
