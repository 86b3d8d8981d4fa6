cimport cython

from app.model.orders cimport db_int
from app.model.position cimport Position


@cython.locals(p=Position, key=tuple, rows=dict)
cpdef dict position_rows(dict positions)
