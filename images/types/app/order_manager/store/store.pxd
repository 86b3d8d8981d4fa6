cimport cython

from app.execution.pending_rows cimport PendingRows
from app.order_manager.store.checkpoint cimport Checkpointer


cdef class OrderStore:
    cdef public object path, run_id
    cdef public PendingRows pending
    cdef public Checkpointer checkpointer
    cdef public object _lease
    cdef object _synchronous, _qty_decimals
    cdef public object _soundness, _files, _connection, _cursor
    cdef bint _closed, _transaction_open, _rows_written

    cpdef flush(self)
    cdef _flush_rare(self, cursor)
    cpdef bint commit(self) except -1
    cpdef end_batch(self)
    cdef _begin_early(self)
