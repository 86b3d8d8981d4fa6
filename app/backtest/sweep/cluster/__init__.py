"""A sweep on other machines: the cells run in the workers of a Dask cluster."""
