"""A/B tests: which variant answers whom, as data in the log; the columns that their results are computed from."""
