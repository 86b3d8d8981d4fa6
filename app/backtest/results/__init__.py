"""What a run leaves: tables, measures, Parquet files, a page; and ``run()`` of notebooks."""
