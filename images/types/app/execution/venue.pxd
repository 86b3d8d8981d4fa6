cimport cython

from app.model.orders cimport Record


@cython.final
cdef class Execution(Record):
    cdef public cython.py_int qty, price, fee, slippage, impact


@cython.final
cdef class Report(Record):
    cdef public tuple executions, reject
    cdef public bint rests


@cython.locals(execution=Execution)
cpdef Execution execution_of(qty, price, fee, slippage, impact)
@cython.locals(report=Report)
cpdef Report report_of(tuple executions, bint rests, tuple reject)
