"""The page of a run or a sweep: one file of HTML that loads nothing and runs no script."""
