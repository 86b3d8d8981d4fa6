cpdef to_units(amount)
cpdef divide(amount, by)
