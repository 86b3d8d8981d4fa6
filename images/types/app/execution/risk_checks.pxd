# The checks have no classes; compiled, so that a call of one costs less.
