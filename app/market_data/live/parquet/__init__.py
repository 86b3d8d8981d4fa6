"""A recording as Parquet."""
