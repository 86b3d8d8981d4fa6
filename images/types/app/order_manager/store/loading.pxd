cimport cython

from app.model.orders cimport Order


@cython.locals(order=Order)
cpdef insert_orders(cursor, list orders)
cpdef insert_rows(cursor, list rows)
