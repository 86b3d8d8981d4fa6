cdef class Held:
    cdef object _coming
    cdef readonly object position
    cdef signed char[::1] _signs
    cdef list _held
    cdef object _order_qty
    cdef readonly bint every

    cpdef wanted(self, intent)
    cpdef leads(self, Py_ssize_t index, side, target)
    cpdef settle(self, Py_ssize_t index, signed_qty)
    cpdef hold(self, Py_ssize_t index, qty)
    cpdef look(self, Py_ssize_t index)
    cpdef qty(self, Py_ssize_t index)
