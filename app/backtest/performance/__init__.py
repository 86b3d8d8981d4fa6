"""How good a run was: returns by day, and the usual measures of them."""
