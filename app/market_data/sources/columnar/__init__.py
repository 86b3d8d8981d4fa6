"""Parquet and Arrow: files of typed columns, decoded in a process of their own."""
