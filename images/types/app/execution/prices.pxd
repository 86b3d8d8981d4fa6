cdef class NoPrices:
    cpdef read(self, symbol)
    cpdef knows(self, symbol)
    cpdef at_tick(self, proof)
