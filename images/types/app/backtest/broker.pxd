cimport cython

from app.execution.accounts cimport Account
from app.execution.order_core cimport OrderCore
from app.execution.pending_rows cimport PendingRows
from app.model.money cimport to_units
from app.model.orders cimport Order, OrderRequest, executed_order, order_id_of_tick, request_of
from app.model.position cimport Position
from app.model.timestamps cimport seconds_text
from app.strategy.kit.held cimport Held


cdef class PaperBroker:
    cdef PendingRows _pending
    cdef readonly OrderCore core
    cdef object _decode, _unit, _symbols, _numbered, _trades, _settled, _fills_before
    cdef list _orders
    cdef Account _taker
    cdef bint _looked
    cdef dict _marks

    @cython.locals(order=Order, taker=Account)
    cpdef trade(self, intents, Held shares, client)
    @cython.locals(position=Position, account=Account)
    cdef _settle(self)
    @cython.locals(account=Account, made=list, row=tuple)
    cdef _make_orders(self)
    cpdef fill(self, Order order, seq, symbol_index, client)
    cdef Order _decide(self, OrderRequest request, now_ns)
    cpdef cost(self, client, symbol)
