cimport cython

from app.execution.accounts cimport Account, Accounts
from app.execution.costs.borrow cimport Borrow
from app.execution.pending_rows cimport PendingRows
from app.execution.risk cimport RiskGate
from app.execution.venue cimport Execution, Report
from app.model.orders cimport Order, OrderRequest, order_of
from app.model.position cimport Position


cdef class OrderCore:
    cdef public RiskGate gate
    cdef public object scale
    cdef public Account stack
    cdef public dict clients, open
    cdef public Borrow borrow
    cdef public object _venue, _clients_max
    cdef Accounts _accounts
    cdef PendingRows _pending
    cdef object _lookup, _is_strategys
    cdef object _next_client_no, _next_order_no, _next_fill_no, _day

    @cython.locals(client=Account)
    cpdef submit(self, OrderRequest request, now_ns, marks=*)
    @cython.locals(order=Order)
    cdef _decide(self, OrderRequest request, Account client, now_ns, at_tick)
    cdef _keep(self, Account client)
    cdef Order _record(self, OrderRequest request, Account client, now_ns)
    @cython.locals(report=Report, execution=Execution)
    cdef _place(self, Order order, Account client, now_ns, at_tick)
    cdef _execute_apart(self, Order order, Account client, Execution execution, event_ns, now_ns)
    cdef _execute(self, Order order, Account client, Execution execution, event_ns)
